"""The part of a run that all trials of a search have in common, carried out once per seed (`search.fork`)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from fedrevive.core.first_read import first_read
from fedrevive.core.process import configure_process
from fedrevive.followed_run import inline_executor
from fedrevive.fork import CAPACITY, make_prefix, prefix_config, saved_arrivals, shared_arrivals
from fedrevive.results.folder import has_manifest
from fedrevive.results.manifest import read_manifest, run_manifest
from fedrevive.results.store import RunStore
from fedrevive.runtime.waiting import cause_of
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import UserError, one_line
from fedrevive.settings.identity import run_id
from fedrevive.tasks import load_task
from fedrevive_tuning.definition import Search
from fedrevive_tuning.folder import SearchFolder
from fedrevive_tuning.spaces import corner_points, parameters
from fedrevive_tuning.validation import value_at

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class WarmUp:
    """What trials share."""

    arrivals: int
    """Uploads at the start of every run; 0 = nothing is shared."""
    configs: Mapping[int, ExperimentConfig]
    """Seed -> the experiment that makes its prefix."""
    reason: str = ""
    """Why nothing is shared."""

    def folder(self, search: SearchFolder, seed: int) -> Path | None:
        """Where the prefix of a seed lies; None when nothing is shared."""
        return search.prefixes / run_id(self.configs[seed]) if self.arrivals else None

    def sentence(self, trials: int) -> str:
        """What it saves, for `trials` configurations."""
        if not self.arrivals:
            return f"warm-up: every trial runs from zero, {self.reason}"
        saved = saved_arrivals(self.arrivals, trials) * len(self.configs)
        return (
            f"warm-up: the first {self.arrivals} arrivals of a seed are the same in all trials and run once; "
            f"{saved} arrivals saved"
        )


def warm_up(search: Search) -> WarmUp:
    """What the trials of `search` share, by the settings that it varies."""
    settings = search.settings
    paths = list(dict.fromkeys(parameter.path for parameter in parameters(search.space)))
    if settings.fork == "off":
        return WarmUp(0, {}, "search.fork is off")
    bases = {seed: search.config({}, seed) for seed in settings.seeds}
    first = bases[settings.seeds[0]]
    if early := [path for path in paths if path.startswith("stop.") or not first_read(first, [path])]:
        return WarmUp(0, {}, f"{early[0]} matters from the start")
    arrivals = min(shared_arrivals(base, paths) for base in bases.values())
    if arrivals < 1:
        return WarmUp(0, {}, "no run is sure to reach the end of the common part")
    largest = None
    if CAPACITY in paths:
        corners = (search.config(point, settings.seeds[0]) for point in corner_points(search.space))
        largest = max(value_at(config, CAPACITY) for config in corners)
    return WarmUp(arrivals, {seed: prefix_config(base, arrivals, largest) for seed, base in bases.items()})


def make_prefixes(
    shared: WarmUp, folder: SearchFolder, details: Mapping[str, Any], interrupted: Callable[[], bool]
) -> WarmUp:
    """Run the prefixes that are missing, side by side; returns early when interrupted, after they have saved.

    A prefix saves work and changes nothing: one from another machine or other package versions is made again, and when
    one fails all trials run from zero and show what is wrong.

    Returns:
        What trials can start from.
    """
    for seed in shared.configs:
        _drop_unlike(shared.folder(folder, seed), details)
    make = ray.remote(_make).options(num_cpus=1)
    waiting = [
        make.remote(config, folder, str((shared.folder(folder, seed) or Path()).absolute()), dict(details))
        for seed, config in shared.configs.items()
        if shared.arrivals
    ]
    while waiting:
        if interrupted() and not folder.stop_requested():
            folder.request_stop()
        done, waiting = ray.wait(waiting, timeout=POLL_SECONDS)
        try:
            ray.get(done)
        except RayError as error:
            cause = cause_of(error) if isinstance(error, RayTaskError) else error
            return WarmUp(0, {}, one_line(f"because a common part failed: {cause}"))
    return shared


def _drop_unlike(prefix: Path | None, details: Mapping[str, Any]) -> None:
    if prefix is None or not has_manifest(prefix):
        return
    try:
        stored = read_manifest(prefix)
    except UserError:
        stored = {}
    if any(stored.get(key) != details.get(key) for key in ("versions", "lane")):
        shutil.rmtree(prefix)


def drop_prefixes(folder: SearchFolder) -> None:
    """Delete the prefixes of a search whose runs have all begun."""
    shutil.rmtree(folder.prefixes, ignore_errors=True)


def _make(config: ExperimentConfig, folder: SearchFolder, directory: str, details: dict[str, Any]) -> None:
    configure_process()
    with RunStore.open(Path(directory), manifest=run_manifest(config, details)) as store:
        executor = inline_executor(config, load_task(config.task, config.seed))
        for _ in make_prefix(config, store, executor, interrupted=folder.stop_requested):
            pass

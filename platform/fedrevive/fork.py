"""Runs that differ only in settings read late start from one shared prefix, and end in the bits of a run from zero.

    arrivals = shared_arrivals(config, searched)                         0: nothing can be shared
    prefix = prefix_config(config, arrivals, largest)                    one per seed
    for record in make_prefix(prefix, store, executor): ...              once, into its own run folder
    with fork_run(prefix_folder, folder, manifest_of_trial) as store:    for every run
        for record in run_experiment(trial, store, executor): ...

A fork is an ordinary run folder with a snapshot after `arrivals` uploads, so whatever continues runs continues it. The
snapshot may hold base models of uploads due after the run's end, which nothing looks at.
Rows and blobs are copied, by the store's own commit: no folder depends on another one's file system or life, and there
is one way to write a folder. A copy costs a model per upload in flight, which the run would have written anyway.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedrevive.algorithms import STATE_TYPES, dispatch_of, forked_state
from fedrevive.assemble import server_context, server_device
from fedrevive.core.first_read import first_read
from fedrevive.core.state_tree import decode, encode
from fedrevive.experiment import run_experiment
from fedrevive.results.manifest import read_manifest
from fedrevive.results.reading import read_snapshot, read_table
from fedrevive.results.schemas import TABLES
from fedrevive.results.snapshots import Snapshot, document_files
from fedrevive.results.store import RunStore, is_complete
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.draft import Setting, flattened
from fedrevive.settings.errors import UserError
from fedrevive.settings.experiment import StopSettings
from fedrevive.settings.loading import with_compute
from fedrevive.simulation.delays import NANOSECONDS
from fedrevive.simulation.executor import Executor
from fedrevive.simulation.records import Record, SnapshotRecord
from fedrevive.simulation.timeline import Timeline

CAPACITY = "algorithm.teacher_capacity"
LAST_UNIT = 1e9
"""Virtual time units: the largest `stop.virtual_time`."""


def shared_arrivals(config: ExperimentConfig, paths: Sequence[str]) -> int:
    """Uploads that runs which differ in `paths` have in common; 0 when it is none, or all of a run.

    A run that stops at a target accuracy shares nothing, because where it ends is known only by training.

    Args:
        config: one of the runs.
        paths: dotted, the settings they differ in; seed and stop conditions are not among them.
    """
    arrivals, stop = first_read(config, paths), config.stop
    if stop.target_accuracy is not None or (stop.arrivals is not None and stop.arrivals <= arrivals):
        return 0
    if stop.virtual_time is None:
        return arrivals
    timeline = Timeline(config, dispatch_of(config.algorithm))
    while timeline.arrivals <= arrivals:
        if timeline.next_event_at() > stop.virtual_time * NANOSECONDS:
            return 0
        timeline.advance()
    return arrivals


def saved_arrivals(arrivals: int, runs: int) -> int:
    """Uploads that need no training because `runs` runs share a prefix of `arrivals`."""
    return arrivals * max(0, runs - 1)


def prefix_config(
    config: ExperimentConfig, arrivals: int, teacher_capacity: int | None = None
) -> ExperimentConfig:
    """The experiment that makes a prefix; its run id tells prefixes apart.

    Args:
        config: one of the runs that share it.
        arrivals: their `shared_arrivals`, >= 1.
        teacher_capacity: the largest of the runs, when they differ in it.
    """
    algorithm = config.algorithm
    if teacher_capacity is not None:
        algorithm = algorithm.model_copy(update={"teacher_capacity": teacher_capacity})
    return config.model_copy(update={"stop": StopSettings(arrivals=arrivals), "algorithm": algorithm})


def make_prefix(
    config: ExperimentConfig,
    store: RunStore,
    executor: Executor,
    *,
    interrupted: Callable[[], bool] = lambda: False,
) -> Iterator[Record]:
    """Run a prefix, or go on with it; the last record of a complete one is the snapshot that runs start from.

    It yields nothing when the folder holds that snapshot already.

    Args:
        config: from `prefix_config`; its folder is `store`.
        store: the run folder, open.
        executor: made for `config`.
        interrupted: asked after every arrival.

    Raises:
        UserError: the folder was run to its end, which dropped the snapshot.
    """
    arrivals, saved = config.stop.arrivals, store.latest()
    assert arrivals is not None, "config is not from prefix_config"
    if store.finished:
        raise UserError(f"{store.directory}: holds a finished run, no prefix; choose another folder")
    if saved is not None and saved.arrivals == arrivals:
        return
    snapshots = config.snapshots.model_copy(update={"every_arrivals": arrivals})
    # Jobs in flight at the end belong to the prefix too: without a horizon their base models are kept.
    endless = {"stop": StopSettings(virtual_time=LAST_UNIT), "snapshots": snapshots}
    for record in run_experiment(config.model_copy(update=endless), store, executor, interrupted=interrupted):
        yield record
        if isinstance(record, SnapshotRecord) and record.arrivals == arrivals:
            return


def fork_run(prefix: Path, folder: Path, manifest: Mapping[str, Any]) -> RunStore:
    """The run folder of one run, started from a prefix; a run that has begun is left as it is.

    The commit of its first snapshot is the fork: killed before it, the folder holds a run that has not begun.

    Args:
        prefix: folder of a complete prefix; several processes may read it at once.
        folder: the run's folder.
        manifest: the run's own, as for `RunStore.open`.

    Raises:
        UserError: the prefix is incomplete, or the run has not everything in common with it so far; nothing was
            created. Else as `RunStore.open`.
    """
    begun = is_complete(folder) or bool(document_files(folder))
    origin = None if begun else _checked(prefix, manifest)
    store = RunStore.open(folder, manifest=manifest)
    try:
        if origin is not None and not store.finished and store.latest() is None:
            _commit_fork(prefix, origin, with_compute(manifest["config"], {}), store)
    except BaseException:
        store.close()
        raise
    return store


def _commit_fork(prefix: Path, origin: Snapshot, config: ExperimentConfig, store: RunStore) -> None:
    tables = {table: read_table(prefix, table) for table in TABLES}
    device = server_device(config)
    state = decode(origin.state["server"], origin.tensors, STATE_TYPES, device)
    context = server_context(config, device, None)
    staleness = tables["arrivals"].column("staleness").to_pylist()
    structure, arrays = encode(forked_state(config, context, state, staleness))
    for table, rows in tables.items():
        store.append(table, rows.to_pylist())
    store.commit(
        dataclasses.replace(origin, state={**origin.state, "server": structure}, tensors=arrays),
    )


def _checked(prefix: Path, manifest: Mapping[str, Any]) -> Snapshot:
    """The prefix's snapshot, after all checks."""
    shared = read_manifest(prefix)
    origin = read_snapshot(prefix)
    arrivals = shared["config"]["stop"]["arrivals"]
    if origin is None or origin.arrivals != arrivals:
        raise UserError(f"{prefix}: not a complete prefix; make it again in an empty folder")
    for key in ("versions", "lane"):
        if shared.get(key) != manifest.get(key):
            raise UserError(f"{prefix}: made with other {key}, so its bits may differ; make it again here")
    config = with_compute(manifest["config"], {})
    _require_reached(prefix, config.stop, origin)
    mine, its = (_leaves(config_of) for config_of in (manifest["config"], shared["config"]))
    for path in dict.fromkeys((*mine, *its)):
        differs = mine.get(path) != its.get(path) and not path.startswith("stop.")
        if differs and first_read(config, [path]) < arrivals:
            raise UserError(
                f"{path}: {mine.get(path)}, but {prefix} was made with {its.get(path)}; run it from zero"
            )
    if CAPACITY in mine and mine[CAPACITY] > its[CAPACITY]:
        raise UserError(f"{CAPACITY}: {mine[CAPACITY]} is more than the {its[CAPACITY]} that {prefix} keeps")
    return origin


def _require_reached(prefix: Path, stop: StopSettings, origin: Snapshot) -> None:
    """Raise `UserError` unless a run with this stop condition accepts all uploads of the prefix."""
    if stop.target_accuracy is not None:
        raise UserError(
            f"stop.target_accuracy: {stop.target_accuracy}; such a run may end within {prefix}; use null"
        )
    if stop.arrivals is not None and stop.arrivals < origin.arrivals:
        raise UserError(f"stop.arrivals: {stop.arrivals} is less than the {origin.arrivals} of {prefix}")
    if stop.virtual_time is not None and stop.virtual_time * NANOSECONDS < origin.virtual_time:
        reached = origin.virtual_time / NANOSECONDS
        raise UserError(f"stop.virtual_time: {stop.virtual_time} is less than the {reached} of {prefix}")


def _leaves(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted path -> value of a configuration as a manifest holds it."""
    return {
        leaf.path: leaf.value for name, value in config.items() for leaf in flattened(Setting(name, value))
    }

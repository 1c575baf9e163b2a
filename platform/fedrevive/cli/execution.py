"""From a configuration to a finished run folder: what `run`, `resume` and `compare` share. Imports torch lazily."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedrevive.cli import preflight
from fedrevive.pretrained import require_files
from fedrevive.results.manifest import run_manifest
from fedrevive.results.store import RunStore
from fedrevive.settings import ExperimentConfig
from fedrevive.tasks import check_data

if TYPE_CHECKING:
    from fedrevive.runtime.chaos import Chaos
    from fedrevive.simulation.records import Record


def open_run(
    config: ExperimentConfig, folder: Path, *, download: bool = False, given: preflight.Offer | None = None
) -> RunStore:
    """Check what can be checked without torch, then create or continue the run folder and take its lock.

    Raises:
        UserError: data or CPUs are missing, or the folder cannot be used; nothing was created.
    """
    preflight.workers(config, given)
    preflight.delays(config)
    require_files(config)
    if not download:
        check_data(config.task)
    return RunStore.open(folder, manifest=manifest(config))


def manifest(config: ExperimentConfig) -> dict[str, Any]:
    """What identifies a run and where it was made."""
    return run_manifest(config, preflight.provenance())


def records(
    config: ExperimentConfig,
    store: RunStore,
    *,
    download: bool,
    interrupted: Callable[[], bool],
    ready: Callable[[], None],
    given: preflight.Offer,
    chaos: Chaos | None = None,
) -> Iterator[Record]:
    """Run one experiment on its own executor.

    Args:
        config: the experiment.
        store: its folder.
        download: fetch missing data.
        interrupted: asked after every arrival.
        ready: called once the executor is up (libraries may have set signal handlers meanwhile).
        given: where Ray takes its processors.
        chaos: kills actors meanwhile; on Ray only.
    """
    from fedrevive.core.process import configure_process
    from fedrevive.experiment import run_experiment
    from fedrevive.tasks import load_task

    configure_process()
    data = load_task(config.task, config.seed, download)
    if config.compute.executor == "inline":
        from fedrevive.assemble import client_trainer, server
        from fedrevive.simulation.executor import InlineExecutor

        ready()
        executor = InlineExecutor(server(config, data), client_trainer(config, data))
        yield from run_experiment(config, store, executor, interrupted=interrupted)
        return
    from fedrevive.runtime.launch import executor_lanes

    workers = preflight.workers(config, given)
    with executor_lanes([config], data, lanes=1, workers=workers, cpus=given.cpus, address=given.address) as (
        make,
    ):
        ready()
        made = run_experiment(config, store, make(config, data), interrupted=interrupted)
        yield from chaos.during(made, make.lane.pids) if chaos else made

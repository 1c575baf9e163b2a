"""One trial inside Ray Tune: a configuration with all its seeds, each in its own run folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.exceptions import RayError

from fedrevive.core.process import configure_process
from fedrevive.core.target import window
from fedrevive.experiment import run_experiment
from fedrevive.followed_run import inline_executor
from fedrevive.fork import fork_run
from fedrevive.results.manifest import run_manifest
from fedrevive.results.reading import read_table
from fedrevive.results.schemas import NANOSECONDS_PER_UNIT
from fedrevive.results.store import RunStore
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import LINE_LIMIT, ExitCode, UserError, one_line
from fedrevive.simulation.executor import Executor
from fedrevive.simulation.records import EvaluationRecord, Record, SnapshotRecord
from fedrevive.tasks import load_task
from fedrevive.tasks.federated import FederatedData
from fedrevive_tuning.folder import SearchFolder
from fedrevive_tuning.placement import Placement

TIME, SCORE = "virtual_time", "validation_accuracy"
"""What a trial reports to Tune: the seed furthest behind in virtual time units, and the mean over seeds of the moving
average of validation accuracy."""
LOCK_SECONDS = 30.0
"""How long to wait for a run folder: a killed search's processes live on for some seconds."""

MakeExecutor = Callable[[ExperimentConfig, FederatedData], Executor]


@dataclass(frozen=True)
class TrialOrder:
    """All that a trial's process needs to know."""

    number: int
    directory: Path
    """The search's folder, absolute."""
    configs: tuple[ExperimentConfig, ...]
    """One per seed."""
    prefixes: tuple[Path | None, ...]
    """Folder of the shared warm-up of each seed, absolute; None = from zero."""
    placement: Placement
    details: Mapping[str, Any]
    """JSON values for the manifests of the runs: versions, hardware lane, command."""


def run_trial(config: dict[str, Any]) -> None:
    """Carry out `config["order"]`, from the start or from its runs' snapshots (a Ray Tune function trainable).

    The outcome is in the search's folder, also that of a failure for good. What another attempt may cure is raised.
    """
    order: TrialOrder = config["order"]
    folder = SearchFolder(order.directory)
    try:
        complete = _simulate(order, folder)
    except UserError as error:
        passing = error.exit_code in (ExitCode.ENVIRONMENT, ExitCode.RUNNING)
        folder.update(order.number, "running" if passing else "failed", str(error))
        if passing:
            raise
    except (OSError, MemoryError, RayError, torch.OutOfMemoryError) as error:
        folder.update(order.number, "running", _line(error))
        raise
    except Exception as error:
        folder.update(order.number, "failed", _line(error))
    else:
        if complete:
            folder.update(order.number, "complete")
        elif folder.stop_requested(order.number):
            folder.update(order.number, "stopped")


def _line(error: BaseException) -> str:
    return one_line(f"{type(error).__name__}: {error}", limit=LINE_LIMIT)


def _simulate(order: TrialOrder, folder: SearchFolder) -> bool:
    """Advance all seeds together, always the one furthest behind; whether all came to their end."""

    def stop() -> bool:
        return folder.stop_requested() or folder.stop_requested(order.number)

    configure_process()
    with ExitStack() as stack:
        factories = stack.enter_context(_executors(order))
        runs = [
            _Run(config, stack.enter_context(open_run_folder(order, folder, config, prefix)), make, stop)
            for config, prefix, make in zip(order.configs, order.prefixes, factories, strict=True)
        ]
        reported = 0.0
        while unfinished := [run for run in runs if not run.ended]:
            if stop():
                for run in unfinished:
                    run.save()
                break
            min(unfinished, key=lambda run: run.virtual_time).advance()
            now = min((run.virtual_time for run in runs if not run.ended), default=0.0)
            if now > reported:
                reported = now
                tune.report({TIME: now, SCORE: sum(run.accuracy for run in runs) / len(runs)})
        return all(run.ended for run in runs)


@contextmanager
def open_run_folder(
    order: TrialOrder, folder: SearchFolder, config: ExperimentConfig, prefix: Path | None
) -> Iterator[RunStore]:
    """The run folder of one seed, created when it does not exist: the one place where runs of a search begin.

    Args:
        order: the trial.
        folder: the search.
        config: the experiment of this seed.
        prefix: what a new run starts from; None = from zero.

    Raises:
        UserError: as `RunStore.open`; exit code 4 after waiting for a process that lives on.
    """
    manifest = run_manifest(config, order.details)
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            run = folder.run(manifest["run_id"])
            store = (
                RunStore.open(run, manifest=manifest) if prefix is None else fork_run(prefix, run, manifest)
            )
            break
        except UserError as error:
            if error.exit_code != ExitCode.RUNNING or time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    with store:
        yield store


@contextmanager
def _executors(order: TrialOrder) -> Iterator[list[MakeExecutor]]:
    """One factory per seed: this process itself, or actors of its own within the trial's placement group."""
    if order.placement.inline:
        yield [inline_executor] * len(order.configs)
        return
    from fedrevive.runtime.launch import open_lanes

    placement = order.placement
    with open_lanes(placement.seeds, workers=placement.workers, gpu=placement.gpu) as factories:
        yield [*factories]


class _Run:
    """One seed's simulation, advanced from evaluation to evaluation."""

    def __init__(
        self, config: ExperimentConfig, store: RunStore, make: MakeExecutor, stop: Callable[[], bool]
    ) -> None:
        evaluations = read_table(store.directory, "evaluations")
        self._accuracies: list[float] = evaluations.column("validation_accuracy").to_pylist()
        times = evaluations.column("virtual_time").to_pylist()
        self.virtual_time = times[-1] / NANOSECONDS_PER_UNIT if times else 0.0
        """Of the latest evaluation, in units."""
        self.ended = store.finished
        """Whether the run came to its end."""
        self._window = window(config)
        self._store = store
        self._records: Iterator[Record] = iter(())
        if not self.ended:
            executor = make(config, load_task(config.task, config.seed))
            self._records = run_experiment(config, store, executor, interrupted=stop)

    @property
    def accuracy(self) -> float:
        """Moving average of validation accuracy; of fewer values at the start."""
        latest = self._accuracies[-self._window :]
        return sum(latest) / len(latest) if latest else 0.0

    def advance(self) -> None:
        """Go to the next evaluation, and one step further to see whether it was the last one."""
        for record in self._records:
            if isinstance(record, EvaluationRecord):
                self._accuracies.append(record.evaluation.validation_accuracy)
                self.virtual_time = record.virtual_time / NANOSECONDS_PER_UNIT
                next((later for later in self._records if not isinstance(later, SnapshotRecord)), None)
                break
        self.ended = self._store.finished

    def save(self) -> None:
        """Go to the snapshot that a request to stop leads to."""
        for _ in self._records:
            pass
        self.ended = self._store.finished

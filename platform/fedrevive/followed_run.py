"""One run of many: its folder is opened, what is missing is carried out, and now and then it says how far it is."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrevive.assemble import client_trainer, server
from fedrevive.core.process import configure_process
from fedrevive.experiment import run_experiment
from fedrevive.results.store import RunStore
from fedrevive.settings import ExperimentConfig
from fedrevive.simulation.executor import Executor, InlineExecutor
from fedrevive.simulation.records import ArrivalRecord, EvaluationRecord, FinalRecord, Record
from fedrevive.tasks import load_task
from fedrevive.tasks.federated import FederatedData

PROGRESS_SECONDS = 0.25
"""Real time between two reports of `followed`. Ours."""


@dataclass(frozen=True)
class RunStatus:
    """How far a run is."""

    arrivals: int
    virtual_time: int
    """Virtual nanoseconds."""
    test_accuracy: float | None
    """The latest evaluation's; None before the first."""
    finished: bool


def followed(records: Iterable[Record]) -> Iterator[RunStatus]:
    """Carry a run out and say now and then, and at its end, how far it is."""
    latest, told = RunStatus(0, 0, None, finished=False), time.monotonic()
    for record in records:
        match record:
            case ArrivalRecord():
                latest = dataclasses.replace(
                    latest, arrivals=record.sequence + 1, virtual_time=record.accepted_at
                )
            case EvaluationRecord():
                latest = dataclasses.replace(latest, test_accuracy=record.evaluation.test_accuracy)
            case FinalRecord():
                latest = dataclasses.replace(latest, finished=True)
        if latest.finished or time.monotonic() - told >= PROGRESS_SECONDS:
            told = time.monotonic()
            yield latest


@dataclass(frozen=True)
class RunIdentity:
    """What is needed to create or continue a run folder."""

    folder: Path
    manifest: Mapping[str, Any]


ExecutorFactory = Callable[[ExperimentConfig, FederatedData], Executor]


def run_on(
    make: ExecutorFactory,
    config: ExperimentConfig,
    identity: RunIdentity,
    download: bool,
    interrupted: Callable[[], bool],
) -> Iterator[RunStatus]:
    """Carry out what is missing of a run; yields nothing when it is complete.

    Args:
        make: makes the run's executor.
        config: the experiment.
        identity: its folder.
        download: fetch missing data.
        interrupted: asked after every arrival.

    Raises:
        UserError: the folder cannot be used, or data is missing.
    """
    with RunStore.open(identity.folder, manifest=identity.manifest) as store:
        if store.finished:
            return
        # Nobody but the run keeps the executor: the run may have to replace it.
        records = run_experiment(
            config,
            store,
            make(config, load_task(config.task, config.seed, download)),
            interrupted=interrupted,
        )
        yield from followed(records)


def run_inline(
    config: ExperimentConfig, identity: RunIdentity, download: bool, interrupted: Callable[[], bool]
) -> Iterator[RunStatus]:
    """`run_on` in this process and thread."""
    configure_process()
    return run_on(inline_executor, config, identity, download, interrupted)


def inline_executor(config: ExperimentConfig, data: FederatedData) -> InlineExecutor:
    """Client training and server in this process."""
    return InlineExecutor(server(config, data), client_trainer(config, data))

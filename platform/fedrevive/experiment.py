"""One experiment into one run folder, from the start or from its latest snapshot."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fedrevive.algorithms import dispatch_of
from fedrevive.assemble import new_model, sample_flops
from fedrevive.core.messages import FloatVector
from fedrevive.core.target import target_of, window
from fedrevive.results.cadence import Cadence
from fedrevive.results.snapshots import Snapshot
from fedrevive.results.store import RunStore
from fedrevive.results.tables import summary
from fedrevive.results.utilisation import utilisation
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import ExitCode, UserError
from fedrevive.simulation.delays import NANOSECONDS
from fedrevive.simulation.executor import Executor, ServerLostError
from fedrevive.simulation.loop import simulate
from fedrevive.simulation.records import (
    ArrivalRecord,
    EvaluationRecord,
    EventRecord,
    FinalRecord,
    Record,
    SnapshotRecord,
)
from fedrevive.stored_records import arrival_row, evaluation_row, event_row, from_store, timing_row, to_store

SERVER_LOSSES = 3
"""Losses of the server without any record or snapshot between them, after which the run gives up. Ours."""


def run_experiment(
    config: ExperimentConfig,
    store: RunStore,
    executor: Executor,
    *,
    interrupted: Callable[[], bool] = lambda: False,
) -> Iterator[Record]:
    """Run until the stop condition, or until `interrupted`, and yield every record once it is in the store's hands.

    After an interruption the last record is a `SnapshotRecord`, already committed; otherwise a `FinalRecord`, and the
    folder is finished. When the executor loses its server, the run starts again from its latest snapshot with another
    one, as if the process had been restarted; no record comes twice.

    Args:
        config: the experiment; its folder is `store`.
        store: the run folder, open; its latest snapshot is continued.
        executor: carries out the work; made for `config`.
        interrupted: asked after every arrival.

    Raises:
        UserError: stopped by policy (exit code 6), or the server was lost several times without any progress (5).
    """
    saved = store.latest()
    clock = Cadence(config.snapshots, interrupted, saved.state["wall_seconds"] if saved else 0.0)
    reached, losses = _Reached(), 0
    while True:
        try:
            for record in _session(config, store, executor, clock, saved):
                if reached.first_time(record):
                    losses = 0
                    yield record
                if isinstance(record, SnapshotRecord) and interrupted():
                    return
            return
        except ServerLostError as lost:
            losses += 1
            if losses == SERVER_LOSSES:
                raise UserError(
                    f"compute: the server was lost {losses} times without any progress ({lost}); is there enough "
                    "memory? the run can be resumed",
                    exit_code=ExitCode.ENVIRONMENT,
                ) from None
            replacement = lost.replacement
        del executor  # and with it every model that it keeps, before another one takes their room
        store.rollback()
        clock.failed()
        saved, executor = store.latest(), replacement()


class _Reached:
    """How far a run was when it lost its server: up to there, the same records come again."""

    def __init__(self) -> None:
        self._latest: dict[type, int] = {}

    def first_time(self, record: Record) -> bool:
        """Whether the record, or what it commits, is new."""
        match record:
            case ArrivalRecord() | EventRecord():
                number = record.sequence
            case EvaluationRecord():
                number = record.arrivals
            case _:
                return True
        new = number > self._latest.get(type(record), -1)
        if new:
            self._latest[type(record)] = number
        return new


def _session(
    config: ExperimentConfig, store: RunStore, executor: Executor, clock: Cadence, saved: Snapshot | None
) -> Iterator[Record]:
    """From `saved`, or from zero, to the end; every record is in the store's hands when it is yielded."""
    work = sample_flops(config)
    for record in simulate(
        config,
        dispatch_of(config.algorithm),
        executor,
        snapshot_due=clock.snapshot_due,
        resume_from=from_store(saved) if saved else None,
    ):
        match record:
            case ArrivalRecord():
                store.append("arrivals", [arrival_row(record, work)])
                store.append("timings", [timing_row(timing) for timing in record.applied.timings])
            case EvaluationRecord():
                store.append("evaluations", [evaluation_row(record)])
                timing = dataclasses.replace(record.evaluation.timing, sequence=record.arrivals)
                store.append("timings", [timing_row(timing)])
            case EventRecord():
                store.append("events", [event_row(record)])
                store.append("timings", [timing_row(timing) for timing in record.timings])
            case SnapshotRecord():
                store.commit(to_store(record, clock.wall_seconds))
                clock.saved()
            case FinalRecord():
                _finish(config, store, record, clock.wall_seconds)
        yield record


def _finish(config: ExperimentConfig, store: RunStore, record: FinalRecord, seconds: float) -> None:
    arrivals, evaluations = store.table("arrivals"), store.table("evaluations")
    outcome = summary(
        evaluations,
        target_accuracy=target_of(config),
        end_time_ns=record.virtual_time,
        window=window(config),
    )
    flops = {
        name: float(sum(value or 0.0 for value in arrivals.column(name).to_pylist()))
        for name in ("client_flops", "server_flops")
    }
    timings = store.table("timings")
    store.finish(
        named_arrays(config, record.model),
        {
            "arrivals": record.arrivals,
            "rejected": record.rejected,
            "versions": record.version,
            "virtual_time": record.virtual_time / NANOSECONDS,
            **outcome,
            **flops,
            "wall_seconds": seconds,
            "client_cpu_seconds": _cpu_seconds(timings, "train"),
            "server_cpu_seconds": _cpu_seconds(timings, "apply"),
            "utilisation": utilisation(arrivals, timings).summary(),
        },
    )


def _cpu_seconds(timings: pa.Table, kind: str) -> float:
    return float(pc.sum(timings.filter(pc.field("kind") == kind).column("cpu_ms")).as_py() or 0.0) / 1e3


def named_arrays(config: ExperimentConfig, model: FloatVector) -> dict[str, Any]:
    """A flat model [P + S] as the arrays of an ordinary `state_dict`."""
    workspace = new_model(config, "cpu")
    workspace.load_array(model)
    return {name: value.numpy() for name, value in workspace.state_dict().items()}

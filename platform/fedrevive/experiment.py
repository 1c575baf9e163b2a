"""One experiment into one run folder, from the start or from its latest snapshot."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from fedrevive.algorithms import dispatch_of
from fedrevive.assemble import new_model, sample_flops
from fedrevive.core.messages import FloatVector, Timing
from fedrevive.core.target import window
from fedrevive.results.snapshots import Snapshot
from fedrevive.results.store import RunStore
from fedrevive.results.tables import summary
from fedrevive.settings import ExperimentConfig
from fedrevive.simulation.delays import NANOSECONDS
from fedrevive.simulation.executor import Executor
from fedrevive.simulation.loop import simulate
from fedrevive.simulation.records import (
    ArrivalRecord,
    EvaluationRecord,
    FinalRecord,
    Record,
    ServerCapture,
    SnapshotRecord,
)


def run_experiment(
    config: ExperimentConfig,
    store: RunStore,
    executor: Executor,
    *,
    interrupted: Callable[[], bool] = lambda: False,
) -> Iterator[Record]:
    """Run until the stop condition, or until `interrupted`, and yield every record once it is in the store's hands.

    After an interruption the last record is a `SnapshotRecord`, already committed; otherwise a `FinalRecord`, and the
    folder is finished.

    Args:
        config: the experiment; its folder is `store`.
        store: the run folder, open; its latest snapshot is continued.
        executor: carries out the work; made for `config`.
        interrupted: asked after every arrival.
    """
    saved = store.latest()
    clock = _Clock(config, interrupted, earlier=saved.state["wall_seconds"] if saved else 0.0)
    work = sample_flops(config)
    for record in simulate(
        config,
        dispatch_of(config.algorithm),
        executor,
        snapshot_due=clock.snapshot_due,
        resume_from=_from_store(saved) if saved else None,
    ):
        match record:
            case ArrivalRecord():
                store.append("arrivals", [_arrival_row(record, work)])
                store.append("timings", [_timing_row(timing) for timing in record.applied.timings])
            case EvaluationRecord():
                store.append("evaluations", [_evaluation_row(record)])
                timing = dataclasses.replace(record.evaluation.timing, sequence=record.arrivals)
                store.append("timings", [_timing_row(timing)])
            case SnapshotRecord():
                store.commit(_to_store(record, clock.wall_seconds))
                clock.saved()
            case FinalRecord():
                _finish(config, store, record, clock.wall_seconds)
        yield record
        if isinstance(record, SnapshotRecord) and interrupted():
            return


class _Clock:
    """Real time: when to save (by arrivals, by seconds, at once when interrupted), and how long a run took."""

    def __init__(self, config: ExperimentConfig, interrupted: Callable[[], bool], earlier: float) -> None:
        self._settings = config.snapshots
        self._interrupted = interrupted
        self._started = self._saved = time.monotonic()
        self._earlier = earlier

    @property
    def wall_seconds(self) -> float:
        """Real seconds of this and of the interrupted sessions up to their last snapshot."""
        return self._earlier + time.monotonic() - self._started

    def snapshot_due(self, arrivals: int) -> bool:
        every = self._settings.every_arrivals
        if every is not None and arrivals % every == 0:
            return True
        return self._interrupted() or time.monotonic() - self._saved >= self._settings.every_seconds

    def saved(self) -> None:
        self._saved = time.monotonic()


def _finish(config: ExperimentConfig, store: RunStore, record: FinalRecord, seconds: float) -> None:
    arrivals, evaluations = store.table("arrivals"), store.table("evaluations")
    outcome = summary(
        evaluations,
        target_accuracy=config.evaluation.target_accuracy or config.stop.target_accuracy,
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
            "versions": record.version,
            "virtual_time": record.virtual_time / NANOSECONDS,
            **outcome,
            **flops,
            "wall_seconds": seconds,
            "client_cpu_seconds": _cpu_seconds(timings, "train"),
            "server_cpu_seconds": _cpu_seconds(timings, "apply"),
        },
    )


def _cpu_seconds(timings: pa.Table, kind: str) -> float:
    return float(pc.sum(timings.filter(pc.field("kind") == kind).column("cpu_ms")).as_py() or 0.0) / 1e3


def named_arrays(config: ExperimentConfig, model: FloatVector) -> dict[str, Any]:
    """A flat model [P + S] as the arrays of an ordinary `state_dict`."""
    workspace = new_model(config, "cpu")
    workspace.load(torch.from_numpy(model.copy()))
    return {name: value.numpy() for name, value in workspace.state_dict().items()}


def _arrival_row(record: ArrivalRecord, work_per_sample: float) -> dict[str, Any]:
    task, applied = record.task, record.applied
    return {
        "sequence": record.sequence,
        "job": task.job,
        "client": task.client_id,
        "dispatched_at": task.dispatched_at,
        "arrives_at": task.arrives_at,
        "accepted_at": record.accepted_at,
        **dataclasses.asdict(applied.info),
        "train_loss": applied.train_loss,
        "samples": applied.samples,
        "client_flops": work_per_sample * applied.samples,
    }


def _evaluation_row(record: EvaluationRecord) -> dict[str, Any]:
    measured = record.evaluation
    return {
        "arrivals": record.arrivals,
        "version": record.version,
        "virtual_time": record.virtual_time,
        "test_accuracy": measured.test_accuracy,
        "test_loss": measured.test_loss,
        "validation_accuracy": measured.validation_accuracy,
        "validation_loss": measured.validation_loss,
    }


def _timing_row(timing: Timing) -> dict[str, Any]:
    return dataclasses.asdict(timing)


def _to_store(record: SnapshotRecord, wall_seconds: float) -> Snapshot:
    return Snapshot(
        arrivals=record.arrivals,
        virtual_time=record.virtual_time,
        state={
            "server": record.server.structure,
            "version": record.version,
            "base_versions": list(record.base_versions.items()),
            "base_local_steps": [
                (arrivals, list(steps.items())) for arrivals, steps in record.base_local_steps.items()
            ],
            "recent_validation": list(record.recent_validation),
            "wall_seconds": wall_seconds,
        },
        tensors=record.server.arrays,
        base_models=record.base_models,
    )


def _from_store(snapshot: Snapshot) -> SnapshotRecord:
    state = snapshot.state
    return SnapshotRecord(
        arrivals=snapshot.arrivals,
        virtual_time=snapshot.virtual_time,
        version=state["version"],
        server=ServerCapture(state["server"], dict(snapshot.tensors)),
        base_models=snapshot.base_models,
        base_versions=dict(state["base_versions"]),
        base_local_steps={arrivals: dict(steps) for arrivals, steps in state["base_local_steps"]},
        recent_validation=tuple(state["recent_validation"]),
    )

"""Records of a run as the store keeps them: rows of its tables, and snapshots."""

from __future__ import annotations

import dataclasses
from typing import Any

from fedrevive.core.gate import GateMemory
from fedrevive.core.messages import Timing
from fedrevive.results.snapshots import Snapshot
from fedrevive.simulation.records import (
    ArrivalRecord,
    EvaluationRecord,
    EventRecord,
    ServerCapture,
    SnapshotRecord,
)


def arrival_row(record: ArrivalRecord, work_per_sample: float) -> dict[str, Any]:
    """A row of `arrivals`; `work_per_sample` in floating-point operations."""
    task, applied = record.task, record.applied
    measured = dict(vars(applied.info))  # dataclasses.asdict is a tenth of the machinery of a small run
    del measured["discarded"]
    return {
        "sequence": record.sequence,
        "job": task.job,
        "client": task.client_id,
        "dispatched_at": task.dispatched_at,
        "arrives_at": task.arrives_at,
        "accepted_at": record.accepted_at,
        **measured,
        "train_loss": applied.train_loss,
        "samples": applied.samples,
        "client_flops": work_per_sample * applied.samples,
    }


def event_row(record: EventRecord) -> dict[str, Any]:
    """A row of `events`."""
    return {
        "sequence": record.sequence,
        "virtual_time": record.virtual_time,
        "kind": record.kind,
        "client": record.task.client_id,
        "job": record.task.job,
        "reason": record.reason,
    }


def evaluation_row(record: EvaluationRecord) -> dict[str, Any]:
    """A row of `evaluations`."""
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


def timing_row(timing: Timing) -> dict[str, Any]:
    """A row of `timings`."""
    return dict(vars(timing))


def to_store(record: SnapshotRecord, wall_seconds: float) -> Snapshot:
    """What the store saves; `wall_seconds` of work so far, in real seconds."""
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
            "gate": dataclasses.asdict(record.server.gate),
            "events": record.events,
            "wall_seconds": wall_seconds,
        },
        tensors=record.server.arrays,
        base_models=record.base_models,
    )


def from_store(snapshot: Snapshot) -> SnapshotRecord:
    """What `simulate` goes on from."""
    state = snapshot.state
    return SnapshotRecord(
        arrivals=snapshot.arrivals,
        virtual_time=snapshot.virtual_time,
        version=state["version"],
        server=ServerCapture(
            state["server"],
            dict(snapshot.tensors),
            GateMemory(
                tuple(state["gate"]["norms"]), tuple(state["gate"]["buffer_norms"]), state["gate"]["rejected"]
            ),
        ),
        base_models=snapshot.base_models,
        base_versions=dict(state["base_versions"]),
        base_local_steps={arrivals: dict(steps) for arrivals, steps in state["base_local_steps"]},
        recent_validation=tuple(state["recent_validation"]),
        events=state["events"],
    )

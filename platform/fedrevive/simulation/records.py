"""What a run yields: rows of the result tables and the states it can be resumed from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrevive.core.gate import GateMemory
from fedrevive.core.messages import ClientTask, FloatVector, StepInfo, Timing


@dataclass(frozen=True)
class AppliedUpdate:
    """The server's answer to an upload it accepted."""

    info: StepInfo
    train_loss: float
    samples: int
    timings: tuple[Timing, ...]


@dataclass(frozen=True)
class RejectedUpdate:
    """The server's answer to an upload that did not pass its gate."""

    reason: str
    timings: tuple[Timing, ...]


@dataclass(frozen=True)
class CohortEnd:
    """The server has made a version of what was left of a cohort."""

    version: int


@dataclass(frozen=True)
class Evaluation:
    """One server model measured on the splits a user may look at."""

    test_accuracy: float
    test_loss: float
    validation_accuracy: float
    validation_loss: float
    timing: Timing


@dataclass(frozen=True)
class ArrivalRecord:
    """One accepted upload."""

    sequence: int
    """0, 1, 2, ... in order of acceptance; rejected uploads have none."""
    task: ClientTask
    accepted_at: int
    """Virtual nanoseconds."""
    applied: AppliedUpdate


@dataclass(frozen=True)
class EvaluationRecord:
    """One evaluation; `arrivals` uploads had reached the server."""

    arrivals: int
    virtual_time: int
    """Virtual nanoseconds."""
    version: int
    evaluation: Evaluation


@dataclass(frozen=True)
class EventRecord:
    """Something out of the ordinary: a rejected upload, a simulated fault, a discarded distilled delta."""

    sequence: int
    """0, 1, 2, ... in virtual-time order."""
    virtual_time: int
    """Virtual nanoseconds."""
    kind: str
    """rejected, distillation, or the `kind` of a `Fault`."""
    task: ClientTask
    reason: str
    """One line."""
    timings: tuple[Timing, ...] = ()
    """Of a rejected upload."""


@dataclass(frozen=True)
class ServerCapture:
    """The server's state as plain structure plus arrays."""

    structure: Any
    """JSON-able; arrays are named."""
    arrays: dict[str, NDArray[np.generic]]
    gate: GateMemory = field(default_factory=GateMemory)


@dataclass(frozen=True)
class SnapshotRecord:
    """A consistent cut after `arrivals` uploads, accepted or rejected.

    With the configuration, it is all that `resume` needs.
    """

    arrivals: int
    virtual_time: int
    version: int
    server: ServerCapture
    base_models: dict[int, FloatVector] = field(repr=False)
    """Arrivals at dispatch -> server model, for every upload in flight."""
    base_versions: dict[int, int] = field(repr=False)
    base_local_steps: dict[int, dict[int, int]] = field(repr=False)
    """Arrivals at dispatch -> that snapshot's local steps by client; only those with any."""
    recent_validation: tuple[float, ...]
    """Last validation accuracies, for stop.target_accuracy."""
    events: int = 0
    """Events so far."""


@dataclass(frozen=True)
class FinalRecord:
    """The end of the run."""

    arrivals: int
    """Uploads that reached the server."""
    rejected: int
    """Those of them that it did not accept."""
    virtual_time: int
    version: int
    model: FloatVector


Record = ArrivalRecord | EventRecord | EvaluationRecord | SnapshotRecord | FinalRecord

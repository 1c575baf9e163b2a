"""What a run yields: rows of the result tables and the states it can be resumed from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrevive.core.messages import ClientTask, FloatVector, StepInfo, Timing


@dataclass(frozen=True)
class AppliedUpdate:
    """The server's answer to one upload."""

    info: StepInfo
    train_loss: float
    samples: int
    timings: tuple[Timing, ...]


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
    task: ClientTask
    accepted_at: int
    """Virtual nanoseconds."""
    applied: AppliedUpdate


@dataclass(frozen=True)
class EvaluationRecord:
    """One evaluation; `arrivals` uploads had been accepted."""

    arrivals: int
    virtual_time: int
    """Virtual nanoseconds."""
    version: int
    evaluation: Evaluation


@dataclass(frozen=True)
class ServerCapture:
    """The server's state as plain structure plus arrays."""

    structure: Any
    """JSON-able; arrays are named."""
    arrays: dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class SnapshotRecord:
    """A consistent cut after `arrivals` uploads: with the configuration, all that `resume` needs."""

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


@dataclass(frozen=True)
class FinalRecord:
    """The end of the run."""

    arrivals: int
    virtual_time: int
    version: int
    model: FloatVector


Record = ArrivalRecord | EvaluationRecord | SnapshotRecord | FinalRecord

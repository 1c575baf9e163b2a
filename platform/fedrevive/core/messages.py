"""What travels between the server and its clients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedrevive.core.faults import Fault

FloatVector = NDArray[np.float32]


@dataclass(frozen=True)
class ModelSnapshot:
    """A server model as a client receives it."""

    version: int
    """Server version t."""
    model: FloatVector
    """[parameters | buffers], read-only."""
    local_steps: Mapping[int, int] = field(default_factory=dict)
    """Optimiser steps by client, for those that do not take client.local_steps (AsyncFedED)."""


class ClientTask(NamedTuple):
    """One unit of client work: everything but the model and the data (a tuple: millions are made by `plan`)."""

    client_id: int
    job: int
    """Number of the dispatch, 0, 1, 2, ...: unique."""
    nth: int
    """How many jobs this client had before: the counter of its random streams."""
    base_arrivals: int
    """Uploads the server had taken at dispatch: names the server state the client starts from."""
    dispatched_at: int
    """Virtual nanoseconds."""
    arrives_at: int
    """Virtual nanoseconds: when the upload reaches the server, which with server.charge_time accepts it later;
    of a job whose upload is lost: when the server gives it up."""
    fault: Fault = Fault.NONE
    """What goes wrong with it."""


@dataclass(frozen=True)
class Timing:
    """Real time one piece of work took. Never part of a result."""

    kind: str
    """train, apply or evaluate."""
    sequence: int | None
    """Arrival the work belongs to."""
    worker: str
    """Process that did it."""
    host: str
    started_at: float
    """Unix seconds."""
    duration_ms: float
    cpu_ms: float
    """Processor time of the thread; torch computes in one (`core.process`)."""


@dataclass(frozen=True)
class ClientUpdate:
    """What a client sends back."""

    client_id: int
    job: int
    model: FloatVector
    """[parameters | buffers] after local training."""
    samples: int
    """Samples passed through the model."""
    train_loss: float
    """Mean loss over the local steps."""
    timing: Timing | None = None


@dataclass(frozen=True)
class StepInfo:
    """What the server saw and did while it accepted one update; absent measurements are None."""

    base_version: int
    server_version: int
    """Version when the upload was accepted, before its own aggregation."""
    new_version: int
    """Version afterwards."""
    staleness: int
    """server_version - base_version."""
    client_delta_norm: float
    """L2 norm of the trained minus the base parameters."""
    beta: float | None = None
    """Share of the distilled delta in the mixed delta that was applied; None where the algorithm has none."""
    staleness_weight: float | None = None
    """Factor the rule put on the client delta: s(tau) of FedAsync and FedBuff, AsyncFedED's 1/(gamma + eps),
    PORT's weight before it is normalised."""
    distilled_delta_norm: float | None = None
    delta_cosine: float | None = None
    """Cosine between client delta and distilled delta."""
    distill_loss: float | None = None
    """Mean KL over the distillation steps."""
    synthesis_loss: float | None = None
    """Weighted total at the best synthesis step; None when no round ran."""
    onehot_loss: float | None = None
    feature_loss: float | None = None
    adversarial_loss: float | None = None
    teachers: int | None = None
    """Teachers in the buffer, this one included; this and what is measured of them is None until the server's version
    lets them be asked."""
    pool_size: int | None = None
    """Pseudo-samples in the pool."""
    proportion_entropy: float | None = None
    """Entropy of the teachers' class proportions, nats, mean over the teachers."""
    proportion_correlation: float | None = None
    """Correlation of those proportions with the true histograms, mean over the teachers (oracle)."""
    teacher_agreement: float | None = None
    """Share of pool samples of this arrival's first distillation step on which all teachers agree."""
    ensemble_accuracy: float | None = None
    """Accuracy of the teachers' mean answer on held-out images (oracle)."""
    server_flops: float = 0.0
    """Floating-point operations of synthesis, distillation and probing (multiply-add = 2)."""
    discarded: str | None = None
    """Why a distilled delta that was computed was not used: an event, not a column."""

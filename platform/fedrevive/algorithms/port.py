"""PORT: How Asynchronous can Federated Learning Be?

Su, Li, IWQoS 2022, doi 10.1109/IWQoS54832.2022.9812885 (no arXiv version known to us); the rule is that of Plato's
published example. x <- x + eta * sum of p_i*delta_i, p_i = a_i / sum of a_j over the buffer, with
a_i = w_s*(cos(delta_i, movement) + 1)/2 + w_t*b/(tau_i + b).

    w_s  similarity_factor             b         staleness_bound
    w_t  staleness_factor              movement  PortMemory.movement: the server's latest step, x_t - x_(t-1)
    eta  server.lr (the example: 1)    M         server.updates_per_version

The cosine counts as 1 for tau <= 1, before the first version, and where a vector is zero. Clients hold equally many
samples, so no weight depends on their number. The paper also urges clients beyond the bound to report early; that
would change who arrives when, and is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from fedrevive.algorithms.aggregation import Contribution, Upload, VersionStep, aggregating
from fedrevive.algorithms.server_algorithm import ServerAlgorithm, ServerContext, ServerState
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.peers import PortSettings


@dataclass(frozen=True)
class PortMemory:
    """Where the server went last, and what the pending uploads weigh."""

    movement: Tensor | None
    """[P], latest version minus the one before; None before the first."""
    weights: float
    """Sum of a_i over the pending uploads."""


MEMORY_TYPES = (PortMemory,)


def build(config: ExperimentConfig, context: ServerContext) -> ServerAlgorithm:
    """PORT without urgent notifications."""
    settings = config.algorithm
    assert isinstance(settings, PortSettings)
    return aggregating(
        config,
        context,
        partial(contribution, settings),
        lambda: PortMemory(None, 0.0),
        partial(version_step, config.server.lr),
    )


def contribution(settings: PortSettings, state: ServerState, upload: Upload) -> Contribution:
    """The client delta times a_i, which the version divides by the buffer's sum."""
    memory: PortMemory = state.memory
    staleness, bound = upload.info.staleness, settings.staleness_bound
    cosine = 1.0 if staleness <= 1 else _cosine(upload.delta, memory.movement)
    weight = settings.similarity_factor * (cosine + 1) / 2
    weight += settings.staleness_factor * bound / (staleness + bound)
    info = replace(upload.info, staleness_weight=weight)
    return Contribution(weight * upload.delta, info, replace(memory, weights=memory.weights + weight))


def version_step(lr: float, state: ServerState, mean: Tensor) -> VersionStep:
    """From the mean of a_i*delta_i [P] to the weighted mean of the deltas; buffers are averaged without weights."""
    direction = mean * (state.pending / state.memory.weights)
    return VersionStep(direction, PortMemory(lr * direction, 0.0), min(1.0, lr))


def _cosine(delta: Tensor, movement: Tensor | None) -> float:
    if movement is None:
        return 1.0
    norms = float(torch.linalg.vector_norm(delta) * torch.linalg.vector_norm(movement))
    return float(torch.dot(delta, movement)) / norms if norms > 0 else 1.0

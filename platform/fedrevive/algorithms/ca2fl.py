"""CA2FL: Tackling the Data Heterogeneity in Asynchronous Federated Learning with Cached Update Calibration.

Wang, Cao, Wu, Chen, Chen, ICLR 2024 (OpenReview 4aywmeb97I; no arXiv version known to us).
v = h + (1/M) * sum over M uploads of (delta_i - h_i); x <- x + eta*v; then h_i <- delta_i and h is their mean over
all N clients. h_i is client i's last delta, 0 before its first upload.

    M     server.updates_per_version    h_i   Ca2flMemory.cached, absent = 0
    eta   server.lr                     h     Ca2flMemory.mean

A client may upload twice into one buffer, which the paper does not treat. Ours: both uploads count in the mean, both
are compared with h_i as it was before the buffer, and the later one is cached.
Memory: float32, one model per client that has uploaded, at most N.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from fedrevive.algorithms.aggregation import Contribution, Upload, VersionStep, aggregating
from fedrevive.algorithms.server_algorithm import ServerAlgorithm, ServerContext, ServerState
from fedrevive.settings import ExperimentConfig


@dataclass(frozen=True)
class Ca2flMemory:
    """The last delta of every client that has uploaded."""

    cached: dict[int, Tensor]
    """h_i [P] by client, as of the latest version."""
    mean: Tensor
    """h [P]: sum of h_i over N."""
    arrived: dict[int, Tensor]
    """Latest delta [P] by client since that version."""


MEMORY_TYPES = (Ca2flMemory,)


def build(config: ExperimentConfig, context: ServerContext) -> ServerAlgorithm:
    """CA2FL; the cache changes when a version is made, so all uploads of a buffer meet the same h."""
    count = context.spec.parameter_count

    def initial_memory() -> Ca2flMemory:
        return Ca2flMemory({}, torch.zeros(count, device=context.device), {})

    calibrated = partial(version_step, config.task.clients, min(1.0, config.server.lr))
    return aggregating(config, context, contribution, initial_memory, calibrated)


def contribution(state: ServerState, upload: Upload) -> Contribution:
    """What the upload adds to its client's cached delta."""
    memory: Ca2flMemory = state.memory
    cached = memory.cached.get(upload.client_id)
    change = upload.delta if cached is None else upload.delta - cached
    arrived = {**memory.arrived, upload.client_id: upload.delta}
    return Contribution(change, upload.info, replace(memory, arrived=arrived))


def version_step(clients: int, buffer_share: float, state: ServerState, mean: Tensor) -> VersionStep:
    """Calibrate the mean change [P] with h, then refresh h_i and h."""
    memory: Ca2flMemory = state.memory
    refreshed = memory.mean
    for client, delta in memory.arrived.items():
        cached = memory.cached.get(client)
        refreshed = refreshed + (delta if cached is None else delta - cached) / clients
    remembered = Ca2flMemory({**memory.cached, **memory.arrived}, refreshed, {})
    return VersionStep(memory.mean + mean, remembered, buffer_share)

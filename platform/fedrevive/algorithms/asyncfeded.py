"""AsyncFedED: Asynchronous Federated Learning with Euclidean Distance based Adaptive Weight Aggregation.

Wang, Yang, He, Shi, Chen, arXiv 2205.13797. Staleness is how far the server has moved since the client's base, in
units of the client's own movement: gamma = |x_t - x_s| / |delta|; x <- x + lambda/(gamma + eps) * delta, at every
upload. Clients whose gamma is small train longer: E_i <- E_i + floor((gamma_bar - gamma)*kappa).

    lambda     server.lr           eps    damping
    gamma_bar  target_distance     kappa  local_steps_gain
    E_i        AsyncFedEdMemory.local_steps, absent = client.local_steps

E counts optimiser steps here, epochs in the paper. A job takes the E_i of the server state it is dispatched from: it
travels with the model snapshot. The sampled delay of a job does not depend on E_i, which would let trained models
move the timeline. A delta of zero moves nothing and leaves E_i as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from fedrevive.algorithms.aggregation import Contribution, Upload, aggregating
from fedrevive.algorithms.server_algorithm import ServerAlgorithm, ServerContext, ServerState
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.peers import AsyncFedEdSettings


@dataclass(frozen=True)
class AsyncFedEdMemory:
    """How long clients train."""

    local_steps: dict[int, int]
    """E_i by client, for those that left client.local_steps."""


MEMORY_TYPES = (AsyncFedEdMemory,)


def build(config: ExperimentConfig, context: ServerContext) -> ServerAlgorithm:
    """AsyncFedED; with local_steps_gain = 0 (our default) every client keeps client.local_steps."""
    settings = config.algorithm
    assert isinstance(settings, AsyncFedEdSettings)
    count = context.spec.parameter_count

    def contribution(state: ServerState, upload: Upload) -> Contribution:
        start = torch.tensor(upload.base.model[:count], device=context.device)
        moved = float(torch.linalg.vector_norm(state.model[:count] - start))
        own = upload.info.client_delta_norm
        if own == 0:
            return Contribution(upload.delta, replace(upload.info, staleness_weight=0.0), state.memory, 0.0)
        distance = moved / own
        weight = 1.0 / (distance + settings.damping)
        memory = adapted(state.memory, upload.client_id, distance)
        info = replace(upload.info, staleness_weight=weight)
        return Contribution(weight * upload.delta, info, memory, min(1.0, weight))

    def adapted(memory: AsyncFedEdMemory, client: int, distance: float) -> AsyncFedEdMemory:
        change = (settings.target_distance - distance) * settings.local_steps_gain
        if settings.local_steps_gain == 0 or not math.isfinite(change):
            return memory
        configured = config.client.local_steps
        lowest = max(1, math.ceil(configured / settings.local_steps_range))
        highest = max(lowest, math.floor(configured * settings.local_steps_range))
        steps = memory.local_steps.get(client, configured) + math.floor(change)
        return AsyncFedEdMemory({**memory.local_steps, client: min(highest, max(lowest, steps))})

    return aggregating(config, context, contribution, lambda: AsyncFedEdMemory({}), local_steps=local_steps)


def local_steps(state: ServerState) -> Mapping[int, int]:
    """E_i of the clients that left client.local_steps."""
    memory: AsyncFedEdMemory = state.memory
    return memory.local_steps

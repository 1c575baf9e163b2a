"""FADAS: Towards Federated Adaptive Asynchronous Optimization.

Wang, Wang, Lu, Chen, ICML 2024, arXiv 2407.18365. The mean delta of a buffer is the gradient of an AMSGrad step:
m <- b1*m + (1 - b1)*mean; v <- b2*v + (1 - b2)*mean^2; v_max <- max(v_max, v); x <- x + eta_t * m/(sqrt(v_max) + eps).
eta_t depends on tau_max, the largest staleness in the buffer: eta while tau_max <= tau_c, beyond it eta/tau_max (the
authors' code) or min(eta, 1/tau_max) (the paper).

    M      server.updates_per_version    m, v, v_max  FadasMemory.first, .second, .largest_second
    eta    server.lr                     b1, b2, eps  first_decay, second_decay, epsilon
    tau_c  delay_threshold               tau_max      FadasMemory.largest_staleness

Feature-statistic buffers take the clients' mean (as in the authors' code): eta is far too small to average with.
The authors' code measures many deltas against another model than the one their client started from; here, as
everywhere, the base is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from fedrevive.algorithms.aggregation import Contribution, Upload, VersionStep, aggregating
from fedrevive.algorithms.server_algorithm import ServerAlgorithm, ServerContext, ServerState
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.peers import FadasSettings


@dataclass(frozen=True)
class FadasMemory:
    """The server's optimiser."""

    first: Tensor
    """[P]."""
    second: Tensor
    """[P]."""
    largest_second: Tensor
    """[P], element by element over all versions."""
    largest_staleness: int
    """Among the pending uploads, in versions."""


MEMORY_TYPES = (FadasMemory,)


def build(config: ExperimentConfig, context: ServerContext) -> ServerAlgorithm:
    """FADAS with the configured form of delay adaptation."""
    settings = config.algorithm
    assert isinstance(settings, FadasSettings)
    zeros = torch.zeros(context.spec.parameter_count, device=context.device)
    return aggregating(
        config,
        context,
        contribution,
        lambda: FadasMemory(zeros, zeros, zeros, 0),
        partial(version_step, settings, config.server.lr),
    )


def contribution(state: ServerState, upload: Upload) -> Contribution:
    """The client delta as it is; its staleness counts towards tau_max."""
    memory: FadasMemory = state.memory
    largest = max(memory.largest_staleness, upload.info.staleness)
    return Contribution(upload.delta, upload.info, replace(memory, largest_staleness=largest))


def version_step(settings: FadasSettings, lr: float, state: ServerState, mean: Tensor) -> VersionStep:
    """One AMSGrad step along the mean delta [P]; the direction is in units of eta = `lr`."""
    memory: FadasMemory = state.memory
    first = settings.first_decay * memory.first + (1 - settings.first_decay) * mean
    second = settings.second_decay * memory.second + (1 - settings.second_decay) * mean.square()
    largest = torch.maximum(memory.largest_second, second)
    steps = state.version + 1
    correction = settings.bias_correction
    first_scale = 1 - settings.first_decay**steps if correction else 1.0
    second_scale = math.sqrt(1 - settings.second_decay**steps) if correction else 1.0
    step = (first / first_scale) / (largest.sqrt() / second_scale + settings.epsilon)
    share = delay_factor(settings, lr, memory.largest_staleness)
    return VersionStep(share * step, FadasMemory(first, second, largest, 0), buffer_share=1.0)


def delay_factor(settings: FadasSettings, lr: float, largest_staleness: int) -> float:
    """eta_t / eta."""
    if settings.delay_adaptation == "none" or largest_staleness <= settings.delay_threshold:
        return 1.0
    if settings.delay_adaptation == "divided":
        return 1.0 / largest_staleness
    return min(1.0, 1.0 / (lr * largest_staleness))

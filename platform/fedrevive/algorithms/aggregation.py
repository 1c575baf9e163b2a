"""The one place where staleness, deltas, the buffer of B updates and the server's step are defined.

Each algorithm supplies a function, its `Rule`: what an upload contributes, given the state; those whose server
does more than average supply a second one, the `VersionRule`. The rest is shared:
    staleness = t - s, before the upload's own aggregation
    client_delta = trained parameters - base parameters
    after B contributions: x <- x + server.lr * direction, t <- t + 1; direction = mean(contributions), or what
    the version rule makes of it
Feature-statistic buffers follow the model's rule (core/model_state.py) and are never scaled as deltas: with
`reset` a new version takes the initial values; with `average` it takes the convex combination (1 - w)*own +
w*mean of the clients', which keeps variances >= 0 however stale the clients are; w = min(1, server.lr), unless
the version rule says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedrevive.algorithms.server_algorithm import (
    LocalSteps,
    ServerAlgorithm,
    ServerContext,
    ServerState,
    as_configured,
    dispatch_of,
)
from fedrevive.core.messages import ClientUpdate, ModelSnapshot, StepInfo
from fedrevive.settings import ExperimentConfig


@dataclass(frozen=True)
class Upload:
    """An accepted update on the server's device."""

    client_id: int
    job: int
    model: Tensor
    """[P + S]."""
    base: ModelSnapshot
    """What the client started from."""
    delta: Tensor
    """[P], client_delta."""
    info: StepInfo
    """Versions, staleness and norm; a rule adds its own measurements."""


@dataclass(frozen=True)
class Contribution:
    """What an upload adds to the next version."""

    delta: Tensor
    """[P], mixed delta."""
    info: StepInfo
    memory: Any = None
    """The algorithm's record after this upload."""
    buffer_share: float = 1.0
    """In [0, 1]: how far the client's buffers replace the server's in the average."""
    buffers: Tensor | None = None
    """[S], taken instead of the upload's own buffers."""


@dataclass(frozen=True)
class VersionStep:
    """How the server moves once B contributions are there."""

    direction: Tensor
    """[P], scaled by server.lr."""
    memory: Any
    """The algorithm's record after this version."""
    buffer_share: float
    """In [0, 1]: how far the contributions' mean buffers replace the server's, where buffers are averaged."""


Rule = Callable[[ServerState, Upload], Contribution]
VersionRule = Callable[[ServerState, Tensor], VersionStep]
"""Takes the state with B contributions pending, and their mean [P]."""


def aggregating(
    config: ExperimentConfig,
    context: ServerContext,
    rule: Rule,
    initial_memory: Callable[[], Any] = lambda: None,
    version_rule: VersionRule | None = None,
    local_steps: LocalSteps = as_configured,
) -> ServerAlgorithm:
    """A server that collects B contributions of `rule` per version.

    Args:
        config: the experiment.
        context: the task and the model.
        rule: what an upload contributes.
        initial_memory: the algorithm's record at version 0.
        version_rule: from the mean contribution to the server's direction; None = the mean itself.
        local_steps: how long clients train, where that depends on the state.
    """
    updates_per_version, server_lr = config.updates_per_version, config.server.lr
    step = version_rule or partial(_mean_step, min(1.0, server_lr))

    def apply(state: ServerState, base: ModelSnapshot, update: ClientUpdate) -> tuple[ServerState, StepInfo]:
        upload = accepted(state, base, update, context)
        contribution = rule(state, upload)
        state = _collected(state, upload, contribution, context)
        if state.pending == updates_per_version:
            state = _new_version(state, server_lr, context, step)
        return state, replace(contribution.info, new_version=state.version)

    return ServerAlgorithm(
        name=config.algorithm.name,
        dispatch=dispatch_of(config.algorithm),
        init=lambda: _initial_state(context, initial_memory()),
        apply=apply,
        complete=lambda state: _new_version(state, server_lr, context, step) if state.pending else state,
        local_steps=local_steps,
    )


def _initial_state(context: ServerContext, memory: Any) -> ServerState:
    return ServerState(
        version=0,
        arrivals=0,
        model=context.initial_model,
        delta_sum=None,
        buffer_sum=None,
        pending=0,
        memory=memory,
    )


def accepted(state: ServerState, base: ModelSnapshot, update: ClientUpdate, context: ServerContext) -> Upload:
    """The update as the server sees it.

    Raises:
        ValueError: the base is newer than the server, or a vector has the wrong length.
    """
    staleness = state.version - base.version
    if staleness < 0:
        raise ValueError(
            f"job {update.job}: base version {base.version} is newer than server version {state.version}"
        )
    for name, vector in (("base", base.model), ("update", update.model)):
        if vector.shape != (context.spec.size,):
            raise ValueError(
                f"job {update.job}: {name} has shape {vector.shape}, expected ({context.spec.size},)"
            )
    count = context.spec.parameter_count
    model = torch.tensor(update.model, device=context.device)
    # Without a copy of the base first: on a CPU a large model costs as much as it is read and written.
    delta = torch.from_numpy(np.subtract(update.model[:count], base.model[:count])).to(context.device)
    info = StepInfo(
        base_version=base.version,
        server_version=state.version,
        new_version=state.version,
        staleness=staleness,
        client_delta_norm=float(torch.linalg.vector_norm(delta)),
    )
    return Upload(update.client_id, update.job, model, base, delta, info)


def _collected(
    state: ServerState, upload: Upload, contribution: Contribution, context: ServerContext
) -> ServerState:
    delta_sum = contribution.delta if state.delta_sum is None else state.delta_sum + contribution.delta
    buffer_sum = None
    if context.spec.buffer_rule == "average":
        count = context.spec.parameter_count
        offered = upload.model[count:] if contribution.buffers is None else contribution.buffers
        buffers = _convex(state.model[count:], offered, contribution.buffer_share)
        buffer_sum = buffers if state.buffer_sum is None else state.buffer_sum + buffers
    return replace(
        state,
        arrivals=state.arrivals + 1,
        delta_sum=delta_sum,
        buffer_sum=buffer_sum,
        pending=state.pending + 1,
        memory=contribution.memory,
    )


def _mean_step(buffer_share: float, state: ServerState, mean: Tensor) -> VersionStep:
    return VersionStep(mean, state.memory, buffer_share)


def _new_version(
    state: ServerState, server_lr: float, context: ServerContext, rule: VersionRule
) -> ServerState:
    assert state.delta_sum is not None, "a version needs at least one contribution"
    count = context.spec.parameter_count
    mean = state.delta_sum if state.pending == 1 else state.delta_sum / state.pending
    step = rule(state, mean)
    # Written where it stays, for the same reason as in `accepted`.
    model = torch.empty_like(state.model)
    torch.mul(step.direction, server_lr, out=model[:count]).add_(state.model[:count])
    if state.buffer_sum is None:
        model[count:] = context.initial_model[count:]
    else:
        model[count:] = _convex(state.model[count:], state.buffer_sum / state.pending, step.buffer_share)
    return replace(
        state,
        version=state.version + 1,
        model=model,
        delta_sum=None,
        buffer_sum=None,
        pending=0,
        memory=step.memory,
    )


def _convex(own: Tensor, other: Tensor, share: float) -> Tensor:
    return (1.0 - share) * own + share * other

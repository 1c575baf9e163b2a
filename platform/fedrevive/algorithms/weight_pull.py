"""Controls of FedRevive (arXiv 2511.00655) that distil nothing: its distilled delta becomes a pull to averaged weights.

    teacher_mean  distilled_delta = pull*(mean of the c last client models - x), the arriving one included
    server_ema    distilled_delta = pull*(moving average of the server's models - x)
    mixed_delta = (1 - beta(tau))*client_delta + beta(tau)*distilled_delta, after the warm-up, as in fedrevive

If one of them does as well as distillation, then averaging is what helps. Parameters only; no data, no pool, no
proportions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedrevive.algorithms.aggregation import Contribution, Upload, aggregating
from fedrevive.algorithms.blending import blended
from fedrevive.algorithms.server_algorithm import ServerAlgorithm, ServerContext, ServerState
from fedrevive.core.beta_rule import Observed, beta_rule
from fedrevive.core.schedules import warmup_versions
from fedrevive.core.teachers import Teacher, TeacherBuffer, pushed
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.fedrevive import FedReviveSettings, ServerEmaReviver, TeacherMeanReviver


@dataclass(frozen=True)
class WeightPullMemory:
    """What the server remembers beside its model."""

    observed: Observed
    """Staleness of earlier uploads, for a beta that follows it."""
    teachers: TeacherBuffer
    """The last c client models; () for server_ema."""
    average: Tensor | None
    """[P], moving average of the server's models; None for teacher_mean."""
    averaged_versions: int
    """Versions in the average: 0 .. this - 1."""


def build(
    config: ExperimentConfig,
    settings: FedReviveSettings,
    reviver: TeacherMeanReviver | ServerEmaReviver,
    context: ServerContext,
) -> ServerAlgorithm:
    """FedRevive's server with a pull in the place of distillation."""
    concurrency, count = config.server.concurrency, context.spec.parameter_count
    rule = beta_rule(settings.beta, concurrency=concurrency, updates_per_version=config.updates_per_version)
    warmup = warmup_versions(settings.warmup_versions, concurrency=concurrency)

    def initial_memory() -> WeightPullMemory:
        return WeightPullMemory((), (), None, 0)

    def contribution(state: ServerState, upload: Upload) -> Contribution:
        memory: WeightPullMemory = state.memory
        beta, observed = rule.evaluate(memory.observed, upload.info.staleness)
        memory, goal = _goal(
            reviver, settings.teacher_capacity, replace(memory, observed=observed), state, upload
        )
        pulls = beta > 0 and state.version > warmup
        pull = reviver.pull * (goal[:count] - state.model[:count]) if pulls else None
        delta, info = blended(upload, pull, beta)
        averages = isinstance(reviver, TeacherMeanReviver) and state.version > warmup
        teachers = len(memory.teachers) if averages else None
        return Contribution(delta, replace(info, teachers=teachers), memory)

    return aggregating(config, context, contribution, initial_memory)


def moved_average(average: Tensor | None, model: Tensor, versions: int, decay: float) -> Tensor:
    """Exponential moving average after one more model [P]; the first of `versions` + 1 weighs as much as it should.

    The new model's weight is (1 - decay)/(1 - decay^(versions + 1)), Adam's bias correction in running form.
    """
    if average is None:
        return model.clone()
    return average + (1.0 - decay) / (1.0 - decay ** (versions + 1)) * (model - average)


def _goal(
    reviver: TeacherMeanReviver | ServerEmaReviver,
    capacity: int,
    memory: WeightPullMemory,
    state: ServerState,
    upload: Upload,
) -> tuple[WeightPullMemory, Tensor]:
    """Where the server is pulled to, and the memory with what that needed; the average takes each version once."""
    if isinstance(reviver, TeacherMeanReviver):
        teacher = Teacher(upload.client_id, upload.job, upload.model)
        memory = replace(memory, teachers=pushed(memory.teachers, teacher, capacity))
        return memory, torch.stack([each.model for each in memory.teachers]).mean(dim=0)
    count = len(upload.delta)
    if state.version >= memory.averaged_versions:
        average = moved_average(memory.average, state.model[:count], memory.averaged_versions, reviver.decay)
        memory = replace(memory, average=average, averaged_versions=state.version + 1)
    assert memory.average is not None, "the first arrival averages version 0"
    return memory, memory.average

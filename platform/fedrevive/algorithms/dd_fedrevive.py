"""DD-FedRevive: the data-dependent comparator of FedRevive (Askin, Roth, Sun, Joe-Wong, Joshi, Xu, arXiv 2511.00655).

An oracle, not a peer: the last c client models teach the current server model on real labelled images that the server
holds, the task's KD split, instead of images a generator makes. Everything else is FedRevive's: blending by beta(tau),
the warm-up, K_KD steps per arrival.

    C    DdFedReviveMemory.teachers    c     teacher_capacity    K_KD  distill_steps
    pi_k oracle histograms or uniform  eta_s server.lr           T     distill_temperature
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from fedrevive.algorithms.aggregation import Contribution, Upload, aggregating
from fedrevive.algorithms.blending import blended
from fedrevive.algorithms.fedrevive_phases import true_proportions
from fedrevive.algorithms.sample_kinds import held_out, pool_inputs
from fedrevive.algorithms.server_algorithm import Oracle, ServerAlgorithm, ServerContext, ServerState
from fedrevive.core.beta_rule import BetaRule, Observed, beta_rule, configured_beta_rule
from fedrevive.core.distillation import DistillationSetup, Distilled, distill
from fedrevive.core.flops import distillation_forwards
from fedrevive.core.loss_guard import LossGuard, LossWindows
from fedrevive.core.model_state import FlatModel
from fedrevive.core.schedules import warmup_versions
from fedrevive.core.seeds import Purpose, torch_generator
from fedrevive.core.synthetic_pool import SyntheticPool
from fedrevive.core.teachers import Ensemble, Teacher, TeacherBuffer, TeacherModels, pushed
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.peers import DdFedReviveSettings


@dataclass(frozen=True)
class DdFedReviveMemory:
    """What the server remembers beside the model."""

    observed: Observed
    """Staleness of earlier uploads, for a beta that follows it."""
    teachers: TeacherBuffer
    loss_windows: LossWindows


MEMORY_TYPES = (DdFedReviveMemory, Teacher)


@dataclass(frozen=True)
class _Setting:
    """What one arrival needs; the modules carry no information from one arrival to the next."""

    settings: DdFedReviveSettings
    context: ServerContext
    oracle: Oracle
    held_out: SyntheticPool
    """The KD split."""
    beta: BetaRule
    warmup: int
    """Last version that takes updates as they are."""
    teacher_models: TeacherModels
    student: FlatModel
    distillation: DistillationSetup


def build(config: ExperimentConfig, context: ServerContext) -> ServerAlgorithm:
    """DD-FedRevive.

    Raises:
        ValueError: the server has no oracle.
    """
    settings, oracle = config.algorithm, context.oracle
    assert isinstance(settings, DdFedReviveSettings)
    if oracle is None:
        raise ValueError("dd_fedrevive distils on the KD split, which this server cannot see")
    setting = _Setting(
        settings=settings,
        context=context,
        oracle=oracle,
        held_out=held_out(oracle, context),
        beta=beta_rule(
            settings.beta,
            concurrency=config.server.concurrency,
            updates_per_version=config.updates_per_version,
        ),
        warmup=warmup_versions(settings.warmup_versions, concurrency=config.server.concurrency),
        teacher_models=TeacherModels(context.new_model),
        student=context.new_model(),
        distillation=DistillationSetup(settings, pool_inputs(settings.augmentation, context)),
    )
    return aggregating(config, context, partial(contribution, setting), lambda: DdFedReviveMemory((), (), {}))


def forked(
    config: ExperimentConfig, context: ServerContext, state: ServerState, staleness: Sequence[int]
) -> ServerState:
    """See `algorithms.forked_state`."""
    settings, rule = config.algorithm, configured_beta_rule(config)
    assert isinstance(settings, DdFedReviveSettings)
    assert rule is not None
    memory: DdFedReviveMemory = state.memory
    kept = memory.teachers[: settings.teacher_capacity]
    return replace(state, memory=replace(memory, observed=rule.remembered(staleness), teachers=kept))


def contribution(setting: _Setting, state: ServerState, upload: Upload) -> Contribution:
    """One arrival: admit the teacher, past the warm-up distil, blend."""
    memory: DdFedReviveMemory = state.memory
    settings = setting.settings
    beta, observed = setting.beta.evaluate(memory.observed, upload.info.staleness)
    teacher = Teacher(upload.client_id, upload.job, upload.model)
    teachers = pushed(memory.teachers, teacher, settings.teacher_capacity)
    guard = LossGuard(memory.loss_windows, settings.loss_guard)
    learnt, flops = None, 0.0
    distils = state.version > setting.warmup
    if beta > 0 and distils:
        learnt = _distilled(setting, state, teachers, guard)
        flops = float(distillation_forwards(settings, len(teachers))) * setting.context.forward_flops
    delta, info = blended(upload, None if learnt is None else learnt.delta, beta)
    if learnt is not None and info.distilled_delta_norm is not None:
        info = replace(info, distill_loss=learnt.loss, teacher_agreement=learnt.agreement)
    info = replace(info, teachers=len(teachers) if distils else None, server_flops=flops)
    return Contribution(delta, info, DdFedReviveMemory(observed, teachers, guard.windows))


def _distilled(
    setting: _Setting, state: ServerState, teachers: TeacherBuffer, guard: LossGuard
) -> Distilled | None:
    """K_KD steps of a student that starts at the current server model."""
    context = setting.context
    models = setting.teacher_models.load(teachers)
    setting.student.load(state.model)
    random = torch_generator(context.seed, Purpose.DISTILLATION, nth=state.arrivals, device=context.device)
    ensemble = Ensemble(models, _proportions(setting, teachers))
    return distill(setting.distillation, setting.student, ensemble, setting.held_out, guard, random)


def _proportions(setting: _Setting, teachers: TeacherBuffer) -> Tensor:
    """[c, classes], rows sum to 1."""
    if setting.settings.proportions == "oracle":
        return true_proportions(setting.oracle, teachers)
    classes = setting.context.classes
    return torch.full((len(teachers), classes), 1.0 / classes, device=setting.context.device)

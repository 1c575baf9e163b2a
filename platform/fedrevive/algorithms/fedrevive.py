"""FedRevive: Reviving Stale Updates: Data-Free Knowledge Distillation for Asynchronous Federated Learning.

Askin, Roth, Sun, Joe-Wong, Joshi, Xu, arXiv 2511.00655. The last c client models teach the current server
model on images a meta-learned generator makes; a stale update is partly replaced by what the server model
learnt from them.

    x, t         ServerState.model, .version           c        teacher_capacity
    C            FedReviveMemory.teachers              T_gen    generate_every_versions
    pi_k         FedReviveMemory.proportions           K_synth  synthesis_steps
    theta        FedReviveMemory.generator             K_KD     distill_steps
    D_KD         FedReviveMemory.pool                  eta_s    server.lr
    mixed_delta = (1 - beta(tau))*client_delta + beta(tau)*distilled_delta         (the paper's Eq. 3)

Where the paper is silent or its text and the published example differ, algorithm choices are named beside
them: labels ~ the teachers' mean proportions, the Reptile step by Adam, warm-up gates, the loss guard.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from fedrevive.algorithms.aggregation import Contribution, Upload, aggregating
from fedrevive.algorithms.server_algorithm import ServerAlgorithm, ServerContext, ServerState
from fedrevive.core.augmentation import PADDING, build_augmentation
from fedrevive.core.distillation import DistillationSetup, Distilled, distill
from fedrevive.core.flops import ArrivalWork, arrival_flops
from fedrevive.core.generator import GeneratorState, build_generator, initial_state
from fedrevive.core.loss_guard import LossGuard, LossWindows
from fedrevive.core.messages import StepInfo
from fedrevive.core.model_state import FlatModel
from fedrevive.core.schedules import BetaSchedule, Gates, beta_schedule, gates
from fedrevive.core.seeds import Purpose, torch_generator
from fedrevive.core.synthesis import Round, SynthesisSetup, synthesise
from fedrevive.core.synthetic_pool import SyntheticPool, appended, empty_pool
from fedrevive.core.teachers import (
    PROBED_UPLOADS,
    ClassProportions,
    Ensemble,
    Teacher,
    TeacherBuffer,
    TeacherModels,
    observed,
    probe,
    pushed,
    teacher_proportions,
)
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.algorithm import FedReviveSettings

NEVER = -1


@dataclass(frozen=True)
class FedReviveMemory:
    """What FedRevive remembers beside the model."""

    teachers: TeacherBuffer
    proportions: dict[int, ClassProportions]
    """By client."""
    generator: GeneratorState
    pool: SyntheticPool
    loss_windows: LossWindows
    generated_version: int
    """Version of the last generator round; NEVER before the first."""


MEMORY_TYPES = (FedReviveMemory, Teacher, ClassProportions, GeneratorState, SyntheticPool)


@dataclass(frozen=True)
class Workshop:
    """What the phases share. Its modules carry no information from one arrival to the next."""

    settings: FedReviveSettings
    context: ServerContext
    gates: Gates
    beta: BetaSchedule
    teacher_models: TeacherModels
    student: FlatModel
    synthesis: SynthesisSetup
    distillation: DistillationSetup


def build(config: ExperimentConfig, context: ServerContext) -> ServerAlgorithm:
    """FedRevive.

    Raises:
        ValueError: the image size does not suit the augmentation.
    """
    settings = config.algorithm
    assert isinstance(settings, FedReviveSettings)
    workshop = _workshop(config, settings, context)
    generator = initial_state(workshop.synthesis.generator)

    def initial_memory() -> FedReviveMemory:
        pool = empty_pool(context.input_shape, context.device)
        return FedReviveMemory((), {}, generator, pool, {}, NEVER)

    return aggregating(config, context, partial(contribution, workshop), initial_memory)


def contribution(workshop: Workshop, state: ServerState, upload: Upload) -> Contribution:
    """One arrival: admit the teacher, perhaps synthesise, perhaps distil, blend (algorithm.md §1.2)."""
    settings, context, gate = workshop.settings, workshop.context, workshop.gates
    memory, ensemble, probed = _admit(workshop, state.memory, upload)
    beta = workshop.beta(upload.info.staleness)
    guard = LossGuard(memory.loss_windows, settings.loss_guard)
    made, distilled = None, None
    adversarial = gate.adversarial(state.version) and settings.weights.adversarial > 0
    if beta > 0 and gate.synthesises(state.version, memory.generated_version):
        memory, made = _generate(workshop, state, memory, ensemble, guard, adversarial)
    distils = beta > 0 and gate.distils(state.version)
    distils = distils and (len(memory.pool) > 0 or settings.distill_steps == 0)
    if distils:
        distilled = _distil(workshop, state, memory, ensemble, guard)
    work = ArrivalWork(
        teachers=len(memory.teachers),
        probed=probed,
        synthesised=made is not None,
        adversarial=adversarial,
        distilled=distils,
    )
    delta, info = _mixed(upload, distilled, beta)
    info = replace(
        _described(info, made),
        teachers=len(memory.teachers),
        pool_size=len(memory.pool),
        server_flops=arrival_flops(work, settings, context.forward_flops, context.input_shape),
    )
    return Contribution(delta, info, replace(memory, loss_windows=guard.windows))


def _workshop(config: ExperimentConfig, settings: FedReviveSettings, context: ServerContext) -> Workshop:
    _, height, width = context.input_shape
    if settings.augmentation == "crop_flip" and min(height, width) <= PADDING:
        raise ValueError(f"image size {height}x{width}: crop_flip needs more than {PADDING} pixels a side")
    concurrency = config.server.concurrency
    augment = build_augmentation(settings.augmentation, context.mean, context.std, context.device)
    generator = build_generator(settings, context.input_shape, context.seed, context.device)
    return Workshop(
        settings=settings,
        context=context,
        gates=gates(settings, concurrency=concurrency),
        beta=beta_schedule(
            settings.beta, concurrency=concurrency, updates_per_version=config.updates_per_version
        ),
        teacher_models=TeacherModels(context.new_model),
        student=context.new_model(),
        synthesis=SynthesisSetup(settings, generator, augment),
        distillation=DistillationSetup(settings, augment),
    )


def _admit(
    workshop: Workshop, memory: FedReviveMemory, upload: Upload
) -> tuple[FedReviveMemory, Ensemble, bool]:
    """Make the arriving model a teacher; probe it when it is one of its client's first two."""
    settings, context = workshop.settings, workshop.context
    teacher = Teacher(upload.client_id, upload.job, upload.model)
    teachers = pushed(memory.teachers, teacher, settings.teacher_capacity)
    models = workshop.teacher_models.load(teachers)
    proportions, known = memory.proportions, memory.proportions.get(upload.client_id)
    probed = known is None or known.uploads < PROBED_UPLOADS
    if probed:
        random = torch_generator(
            context.seed,
            Purpose.PROBE,
            client=upload.client_id,
            nth=known.uploads if known else 0,
            device=context.device,
        )
        shape = (settings.probe_samples, *context.input_shape)
        noise = torch.randn(shape, generator=random, device=context.device)
        answer = probe(models[0], noise, settings.probe_temperature)
        proportions = {**proportions, upload.client_id: observed(known, answer)}
    ensemble = Ensemble(models, teacher_proportions(teachers, proportions))
    return replace(memory, teachers=teachers, proportions=proportions), ensemble, probed


def _generate(
    workshop: Workshop,
    state: ServerState,
    memory: FedReviveMemory,
    ensemble: Ensemble,
    guard: LossGuard,
    adversarial: bool,
) -> tuple[FedReviveMemory, Round]:
    """One generator round; its best batch joins the pool."""
    student = workshop.student
    student.load(state.model)
    student.module.eval().requires_grad_(False)
    context = workshop.context
    random = torch_generator(context.seed, Purpose.SYNTHESIS, nth=state.version, device=context.device)
    done = synthesise(
        workshop.synthesis, memory.generator, ensemble, student if adversarial else None, guard, random
    )
    pool = memory.pool
    if done.images is not None:
        pool = appended(pool, done.images, done.labels, workshop.settings.pool_capacity)
    return replace(memory, generator=done.generator, pool=pool, generated_version=state.version), done


def _distil(
    workshop: Workshop, state: ServerState, memory: FedReviveMemory, ensemble: Ensemble, guard: LossGuard
) -> Distilled | None:
    """K_KD steps of a student that starts at the current server model."""
    context = workshop.context
    workshop.student.load(state.model)
    random = torch_generator(context.seed, Purpose.DISTILLATION, nth=state.arrivals, device=context.device)
    return distill(workshop.distillation, workshop.student, ensemble, memory.pool, guard, random)


def _mixed(upload: Upload, distilled: Distilled | None, beta: float) -> tuple[Tensor, StepInfo]:
    """Mixed delta [P]; the raw update, reported as beta = 0, without a distilled delta that is finite.

    Keeping the raw update, rather than blending with zeros, avoids shrinking it by 1 - beta for nothing
    (published example, fixed after review).
    """
    if distilled is None or not bool(torch.isfinite(distilled.delta).all()):
        return upload.delta, replace(upload.info, beta=0.0)
    raw = (1.0 - beta) * upload.delta
    if distilled.loss is None:
        return raw, replace(upload.info, beta=beta, distilled_delta_norm=0.0)
    norm = float(torch.linalg.vector_norm(distilled.delta))
    product = norm * upload.info.client_delta_norm
    info = replace(
        upload.info,
        beta=beta,
        distilled_delta_norm=norm,
        delta_cosine=float(torch.dot(upload.delta, distilled.delta)) / product if product > 0 else None,
        distill_loss=distilled.loss,
    )
    return raw + beta * distilled.delta, info


def _described(info: StepInfo, done: Round | None) -> StepInfo:
    if done is None or done.images is None:
        return info
    return replace(
        info,
        synthesis_loss=done.losses["total"],
        onehot_loss=done.losses.get("onehot"),
        feature_loss=done.losses.get("feature_stats"),
        adversarial_loss=done.losses.get("adversarial"),
    )

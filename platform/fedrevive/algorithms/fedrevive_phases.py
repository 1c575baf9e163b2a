"""The phases of one FedRevive arrival: admit the teacher, add to the pool, distil (algorithm.md §1.2-1.5)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedrevive.algorithms.aggregation import Upload
from fedrevive.algorithms.sample_kinds import held_out, noise, pool_inputs, probes, sample_generator
from fedrevive.algorithms.server_algorithm import Oracle, ServerContext, ServerState
from fedrevive.core.beta_rule import BetaRule, Observed, beta_rule
from fedrevive.core.diagnostics import EnsembleAccuracy
from fedrevive.core.distillation import DistillationSetup, Distilled, distill
from fedrevive.core.generator import GeneratorState
from fedrevive.core.loss_guard import LossGuard, LossWindows
from fedrevive.core.model_state import FlatModel
from fedrevive.core.probe_log import ProbeIndex, ProbeLog
from fedrevive.core.remembered_answers import after_admission, after_dropping, completed
from fedrevive.core.schedules import Gates, gates
from fedrevive.core.seeds import Purpose, torch_generator
from fedrevive.core.synthesis import Round, SynthesisSetup, label_shares, synthesise
from fedrevive.core.synthetic_pool import SyntheticPool, appended, real_samples
from fedrevive.core.teachers import (
    PROBED_UPLOADS,
    Ensemble,
    RememberedAnswers,
    Teacher,
    TeacherBuffer,
    TeacherModels,
    draw_classes,
    floored,
    probe,
    pushed,
    random_weights,
)
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.fedrevive import FedReviveSettings

NEVER = -1


@dataclass(frozen=True)
class FedReviveMemory:
    """What FedRevive remembers beside the model."""

    observed: Observed
    """Staleness of earlier uploads, for a beta that follows it."""
    teachers: TeacherBuffer
    answers: RememberedAnswers
    """Of the teachers, in their order; () unless they are remembered."""
    proportions: ProbeLog
    """Of the clients that were probed."""
    generator: GeneratorState | None
    """None when the pool has another source, or a generator that does not learn."""
    pool: SyntheticPool
    loss_windows: LossWindows
    generated_version: int
    """Version of the last addition to the pool; NEVER before the first."""


@dataclass(frozen=True)
class Workshop:
    """What the phases share. Its modules carry no information from one arrival to the next."""

    settings: FedReviveSettings
    context: ServerContext
    gates: Gates
    beta: BetaRule
    teacher_models: TeacherModels
    probes: ProbeIndex
    student: FlatModel
    synthesis: SynthesisSetup | None
    """None when the pool has another source than the generator."""
    distillation: DistillationSetup
    held_out: SyntheticPool | None
    """Real samples with true labels, when the server has an oracle."""
    ensemble_accuracy: EnsembleAccuracy | None
    server_lr: float


def prepared(config: ExperimentConfig, settings: FedReviveSettings, context: ServerContext) -> Workshop:
    """The shared parts.

    Raises:
        ValueError: samples are too small: images to be cropped, texts for the prompts.
    """
    kind = settings.augmentation
    later = kind if settings.distill_augmentation == "same" else settings.distill_augmentation
    student = context.new_model()
    generator = sample_generator(settings, context, student)
    real = None if context.oracle is None else held_out(context.oracle, context)
    return Workshop(
        settings=settings,
        context=context,
        gates=gates(
            settings,
            concurrency=config.server.concurrency,
            updates_per_version=config.updates_per_version,
        ),
        beta=beta_rule(
            settings.beta,
            concurrency=config.server.concurrency,
            updates_per_version=config.updates_per_version,
        ),
        teacher_models=TeacherModels(context.new_model),
        probes=ProbeIndex(),
        student=student,
        synthesis=None
        if generator is None
        else SynthesisSetup(settings, generator, pool_inputs(kind, context)),
        distillation=DistillationSetup(settings, pool_inputs(later, context)),
        held_out=real,
        ensemble_accuracy=_accuracy(context, real) if settings.diagnostics else None,
        server_lr=config.server.lr,
    )


def admit(
    workshop: Workshop, state: ServerState, memory: FedReviveMemory, upload: Upload
) -> tuple[FedReviveMemory, Ensemble, bool]:
    """Make the arriving model a teacher; probe it when it is one of its client's first two."""
    settings, context = workshop.settings, workshop.context
    model = upload.model
    if settings.teachers == "random_weights":
        random = torch_generator(
            context.seed, Purpose.RANDOM_TEACHER, nth=state.arrivals, device=context.device
        )
        model = random_weights(context.initial_model, context.spec, random)
    teachers = pushed(
        memory.teachers, Teacher(upload.client_id, upload.job, model), settings.teacher_capacity
    )
    models = workshop.teacher_models.load(teachers)
    answers = after_admission(memory.answers, settings.teacher_capacity)
    memory, log = replace(memory, teachers=teachers, answers=answers), memory.proportions
    uploads = workshop.probes.uploads(log, upload.client_id)
    probed = settings.proportions == "proxy" and uploads < PROBED_UPLOADS
    if probed:
        answer = _probed(workshop, upload, uploads)
        memory = replace(memory, proportions=workshop.probes.appended(log, upload.client_id, answer))
    return memory, Ensemble(models, _proportions(workshop, memory), settings.class_weights), probed


def add_to_pool(
    workshop: Workshop,
    state: ServerState,
    memory: FedReviveMemory,
    ensemble: Ensemble,
    guard: LossGuard,
    adversarial: bool,
) -> tuple[FedReviveMemory, Round | None]:
    """A batch more in the pool: the best of one generator round, or a control's; labels come from one stream."""
    settings, context = workshop.settings, workshop.context
    random = torch_generator(context.seed, Purpose.SYNTHESIS, nth=state.version, device=context.device)
    done: Round | None = None
    samples: Tensor | None
    if workshop.synthesis is not None:
        student = workshop.student
        student.load(state.model)
        student.module.eval().requires_grad_(False)
        done = synthesise(
            workshop.synthesis, memory.generator, ensemble, student if adversarial else None, guard, random
        )
        memory = replace(memory, generator=done.generator)
        samples, labels = done.samples, done.labels
    else:
        samples, labels = _control_samples(workshop, label_shares(settings, ensemble), random)
    pool, answers = memory.pool, memory.answers
    if samples is not None:
        answers = after_dropping(answers, max(0, len(pool) + len(labels) - settings.pool_capacity))
        pool = appended(pool, samples, labels, settings.pool_capacity)
    return replace(memory, pool=pool, answers=answers, generated_version=state.version), done


def remembered(
    workshop: Workshop, memory: FedReviveMemory, ensemble: Ensemble
) -> tuple[FedReviveMemory, Ensemble, int | None]:
    """Have the teachers answer what they have not yet; the third value counts the samples asked, None if all are."""
    if not workshop.settings.remember_answers:
        return memory, ensemble, None
    undrawn = torch.Generator(workshop.context.device)  # nothing is augmented here, so nothing is drawn
    answers, asked = completed(
        memory.answers,
        ensemble.models,
        memory.pool.samples,
        lambda samples: workshop.distillation.augment(samples, undrawn),
    )
    return replace(memory, answers=answers), replace(ensemble, answers=answers), asked


def distilled(
    workshop: Workshop,
    start: Tensor,
    state: ServerState,
    memory: FedReviveMemory,
    ensemble: Ensemble,
    guard: LossGuard,
) -> Distilled | None:
    """K_KD steps of a student that starts at `start` [P + S]."""
    context = workshop.context
    workshop.student.load(start)
    random = torch_generator(context.seed, Purpose.DISTILLATION, nth=state.arrivals, device=context.device)
    return distill(workshop.distillation, workshop.student, ensemble, memory.pool, guard, random)


def true_proportions(oracle: Oracle, teachers: TeacherBuffer) -> Tensor:
    """The teachers' clients' own class proportions [c, classes], rows sum to 1 (oracle)."""
    counts = torch.stack([oracle.class_histograms[teacher.client_id] for teacher in teachers]).float()
    return counts / counts.sum(dim=1, keepdim=True)


def _probed(workshop: Workshop, upload: Upload, uploads: int) -> Tensor:
    """Proportions that the uploaded model, whatever the teachers are, shows on noise [classes]."""
    settings, context = workshop.settings, workshop.context
    client = workshop.student
    client.load(upload.model)
    client.module.eval().requires_grad_(False)
    random = torch_generator(
        context.seed, Purpose.PROBE, client=upload.client_id, nth=uploads, device=context.device
    )
    return probe(client, probes(context, settings.probe_samples, random), settings.probe_temperature)


def _proportions(workshop: Workshop, memory: FedReviveMemory) -> Tensor:
    """[c, classes], rows sum to 1; looked up now: a second upload refreshes a client's older models too."""
    settings, context = workshop.settings, workshop.context
    match settings.proportions:
        case "proxy":
            clients = [teacher.client_id for teacher in memory.teachers]
            proxies = workshop.probes.proportions(memory.proportions, clients)
            return floored(proxies, settings.probe_floor) if settings.probe_floor else proxies
        case "oracle":
            assert context.oracle is not None, "assemble.server gives an oracle to settings that ask for one"
            return true_proportions(context.oracle, memory.teachers)
        case "uniform":
            shape = (len(memory.teachers), context.classes)
            return torch.full(shape, 1.0 / context.classes, device=context.device)


def _control_samples(workshop: Workshop, shares: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    settings, context, count = workshop.settings, workshop.context, workshop.settings.synthesis_batch
    if settings.pool == "real":
        assert workshop.held_out is not None, "assemble.server gives an oracle to settings that ask for one"
        return real_samples(workshop.held_out, shares, count, random)
    labels = draw_classes(shares[None], count, random)[0]
    return noise(context, labels, random), labels


def _accuracy(context: ServerContext, real: SyntheticPool | None) -> EnsembleAccuracy:
    assert real is not None, "assemble.server gives an oracle to settings that ask for one"
    plain = pool_inputs("none", context)
    return EnsembleAccuracy(plain(real.samples, torch.Generator(context.device)), real.labels)

"""Multi-teacher distillation of the server model on pseudo-samples (algorithm.md §1.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fedrevive.core.adam import Adam
from fedrevive.core.augmentation import Augmentation
from fedrevive.core.diagnostics import teacher_agreement
from fedrevive.core.feature_statistics import FeatureTracker, statistic_layers
from fedrevive.core.loss_guard import LossGuard
from fedrevive.core.model_state import FlatModel
from fedrevive.core.synthetic_pool import SyntheticPool, draw_by_class, draw_uniformly
from fedrevive.core.teachers import Ensemble
from fedrevive.core.text_network import unreached_parameters
from fedrevive.settings.fedrevive import FedReviveSettings
from fedrevive.settings.peers import DdFedReviveSettings

BLOCK_SAMPLES = 8192
"""Samples prepared at once: teachers answer for many steps in one forward pass, within bounded memory."""


@dataclass(frozen=True)
class DistillationSetup:
    """What every distillation shares."""

    settings: FedReviveSettings | DdFedReviveSettings
    augment: Augmentation


@dataclass(frozen=True)
class Distilled:
    """What distillation did to the student."""

    delta: Tensor
    """[P], student after minus before; parameters only, so statistics of synthetic images reach no model."""
    loss: float | None
    """Mean KL over the accepted steps; None when there were no steps to take."""
    agreement: float | None
    """Share of samples of the first step on which all teachers agree; None with less than two teachers."""


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(softmax(teacher/T) || softmax(student/T)): sum over classes, mean over samples; [n, classes]."""
    own = F.log_softmax(student / temperature, dim=1)
    target = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(own, target, reduction="sum", log_target=True) * (temperature**2 / student.shape[0])


def distill(
    setup: DistillationSetup,
    student: FlatModel,
    ensemble: Ensemble,
    pool: SyntheticPool,
    guard: LossGuard,
    random: torch.Generator,
) -> Distilled | None:
    """Train `student` in place for K_KD steps, each on every teacher's own batch.

    None when the guard dropped the loss of every step: blending with nothing learnt would only shrink the update.

    The batches of one step pass through the student together: with BatchNorm its batch statistics are those
    of all teachers' images (ours; without BatchNorm it makes no difference).

    Args:
        setup: settings and augmentation.
        student: workspace that holds the current server model; afterwards the student.
        ensemble: the teachers.
        pool: at least one sample, unless there are no steps.
        guard: a dropped loss leaves the step without gradient; momentum and weight decay still apply.
        random: generator on the device; all batches are drawn first, then the augmentation block by block.
    """
    settings = setup.settings
    if settings.distill_steps == 0:
        return Distilled(torch.zeros_like(student.parameters), None, None)
    before = student.parameters.clone()
    _set_to_train(student)
    step = _optimiser(settings, student, unreached_parameters(student.module, pool.samples))
    losses: list[Tensor] = []
    agreement: float | None = None
    for number, (inputs, answers, positions) in enumerate(_steps(setup, ensemble, pool, random)):
        if number == 0:
            agreement = _agreement(ensemble, inputs, positions)
        loss = distillation_loss(student.module(inputs), answers, settings.distill_temperature)
        student.gradient.zero_()
        if guard.accepts("distillation", loss):
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        step()
    if not losses:
        return None
    return Distilled(student.parameters - before, float(torch.stack(losses).mean()), agreement)


def _optimiser(
    settings: FedReviveSettings | DdFedReviveSettings, student: FlatModel, unreached: int
) -> Callable[[], object]:
    """One step of a fresh optimiser along the student's flat gradient.

    The first `unreached` parameters stay: nothing would move them but weight decay, which Adam blows up to whole steps.
    """
    lr, decay = settings.distill_lr, settings.distill_weight_decay
    parameters, gradient = student.parameters[unreached:], student.gradient[unreached:]
    if settings.distill_optimizer == "adam":
        adam = Adam([parameters], [lr], weight_decay=decay)
        return lambda: adam.step([gradient])
    return lambda: parameters.add_(gradient.add(parameters, alpha=decay), alpha=-lr)


def _set_to_train(student: FlatModel) -> None:
    student.module.train().requires_grad_(True)
    for layer in statistic_layers(student.module):
        if isinstance(layer, FeatureTracker):
            layer.eval()  # same output; recording statistics that are thrown away costs a fifth of a step


def _agreement(ensemble: Ensemble, inputs: Tensor, positions: Tensor) -> float | None:
    """Over every c-th of a step's samples: asking everybody about everything would cost as much as distilling."""
    teachers = len(ensemble.models)
    if ensemble.answers:
        return teacher_agreement([logits[positions[::teachers]] for logits in ensemble.answers])
    with torch.inference_mode():
        return teacher_agreement([model.module(inputs[::teachers]) for model in ensemble.models])


def _steps(
    setup: DistillationSetup, ensemble: Ensemble, pool: SyntheticPool, random: torch.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Inputs [c*b, ...], teacher logits [c*b, classes] and places in the pool [c*b] of each step, by teacher."""
    settings = setup.settings
    teachers, steps, batch = len(ensemble.models), settings.distill_steps, settings.distill_batch
    if ensemble.class_weights:
        drawn = draw_by_class(pool, ensemble.proportions, steps * batch, random)
    else:
        drawn = draw_uniformly(pool, teachers, steps * batch, random)
    drawn = drawn.view(teachers, steps, batch)
    block = max(1, BLOCK_SAMPLES // (teachers * batch))
    for start in range(0, steps, block):
        positions = drawn[:, start : start + block]  # [c, s, b]
        samples = setup.augment(pool.samples[positions.flatten()], random)
        samples = samples.view(*positions.shape, *samples.shape[1:])  # [c, s, b, ...]
        logits = _answers(ensemble, samples, positions)
        for step in range(positions.shape[1]):
            inputs = _contiguous(samples[:, step].flatten(0, 1))
            yield inputs, logits[:, step].flatten(0, 1), positions[:, step].flatten()


def _answers(ensemble: Ensemble, samples: Tensor, positions: Tensor) -> Tensor:
    """What each teacher says to its own samples [c, s, b, classes]: remembered, or asked in one pass per teacher."""
    if ensemble.answers:
        return torch.stack([logits[own] for logits, own in zip(ensemble.answers, positions, strict=True)])
    with torch.inference_mode():
        asked = [model.module(own.flatten(0, 1)) for model, own in zip(ensemble.models, samples, strict=True)]
    return torch.stack(asked).view(*positions.shape, -1)


def _contiguous(inputs: Tensor) -> Tensor:
    """Images [n, C, H, W] channels last, the order their networks read; texts as they are."""
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs.contiguous()

"""One generator round: K_synth steps towards samples the teachers recognise, then one Reptile step.

Loss over a batch of B samples with intended labels y and teacher weights w_k(y):
    onehot         1/B sum_b sum_k w_k(y_b) CE(f_k(x_b), y_b)
    feature_stats  1/B sum_k [sum_b w_k(y_b)] sum_l |m_kl - mean_l(x; f_k)| + |v_kl - var_l(x; f_k)|
    adversarial    -1/B sum_b sum_k w_k(y_b) 1[argmax f_k(x_b) = argmax s(x_b)] KL(f_k(x_b) || s(x_b))
with |.| the L2 norm, not squared, over the channels of statistic layer l; m, v are stored in teacher k.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fedrevive.core.adam import Adam
from fedrevive.core.augmentation import Augmentation
from fedrevive.core.feature_statistics import channel_moments, recorded_inputs, statistic_layers
from fedrevive.core.generator import ADAM_BETAS, GeneratorState, meta_step
from fedrevive.core.loss_guard import LossGuard
from fedrevive.core.model_state import FlatModel
from fedrevive.core.sample_generator import Draft, SampleGenerator
from fedrevive.core.teachers import Ensemble, draw_classes
from fedrevive.settings.fedrevive import FedReviveSettings, SynthesisWeights

NORM_EPS = 1e-12
"""Under the root of the feature norms, whose gradient at 0 is not defined."""


@dataclass(frozen=True)
class SynthesisSetup:
    """What every round shares."""

    settings: FedReviveSettings
    generator: SampleGenerator
    augment: Augmentation


@dataclass(frozen=True)
class Round:
    """Outcome of one generator round."""

    generator: GeneratorState | None
    """None for one that does not learn."""
    samples: Tensor | None
    """[B, ...], not augmented: the batch of the lowest total; None when no total was finite."""
    labels: Tensor
    """[B]."""
    losses: dict[str, float]
    """Unweighted terms of that batch, and `total`."""


def synthesis_terms(
    inputs: Tensor, labels: Tensor, ensemble: Ensemble, student: FlatModel | None, weights: SynthesisWeights
) -> dict[str, Tensor]:
    """Unweighted loss terms by name; a term of weight 0 is left out.

    Args:
        inputs: [B, ...], model inputs.
        labels: [B], intended classes.
        ensemble: the teachers.
        student: the server model, frozen and in eval mode; None leaves the adversarial term out.
        weights: loss weights.
    """
    shares = ensemble.label_weights()[:, labels]  # [c, B]
    scale = 1.0 / labels.shape[0]
    logits, distances = _teacher_answers(inputs, ensemble, with_features=weights.feature_stats > 0)
    teacher = F.log_softmax(logits, dim=2)  # [c, B, classes]
    terms: dict[str, Tensor] = {}
    if weights.onehot > 0:
        intended = labels.expand(shares.shape).unsqueeze(2)
        terms["onehot"] = -scale * (shares * teacher.gather(2, intended).squeeze(2)).sum()
    if distances is not None:
        terms["feature_stats"] = scale * (shares.sum(dim=1) * distances).sum()
    if weights.adversarial > 0 and student is not None:
        own = F.log_softmax(student.module(inputs), dim=1)  # [B, classes]
        agreed = teacher.argmax(dim=2) == own.argmax(dim=1)  # [c, B]
        divergence = (teacher.exp() * (teacher - own)).sum(dim=2)  # [c, B]
        terms["adversarial"] = -scale * (shares * agreed * divergence).sum()
    return terms


def label_shares(settings: FedReviveSettings, ensemble: Ensemble) -> Tensor:
    """How likely each label is for a new pool sample, [classes]: the teachers' mean proportions, or all alike."""
    mean = ensemble.proportions.mean(dim=0)
    return mean if settings.labels == "mean_proxy" else torch.full_like(mean, 1.0 / len(mean))


def synthesise(
    setup: SynthesisSetup,
    state: GeneratorState | None,
    ensemble: Ensemble,
    student: FlatModel | None,
    guard: LossGuard,
    random: torch.Generator,
) -> Round:
    """Run one round: labels by `label_shares`, then a fresh draft.

    The batch that is kept was made before the step it caused, so with K_synth = 2 it has seen at most one
    inner update; lasting progress is the Reptile step's (published example).

    Args:
        setup: settings, workspace and augmentation.
        state: theta before the round; not changed; None when the generator does not learn.
        ensemble: the teachers.
        student: as for `synthesis_terms`.
        guard: judges each term; a dropped term gives no gradient, yet counts in the total that picks the
            batch (ours: otherwise the step that lost its largest term would look best).
        random: generator on the device; labels, draft and augmentation are drawn from it in this order.
    """
    settings, generator = setup.settings, setup.generator
    shares = label_shares(settings, ensemble)
    labels = draw_classes(shares[None], settings.synthesis_batch, random)[0]
    draft = generator.draft(labels, len(shares), random)
    if state is not None:
        generator.theta.load(state.parameters)
    step = _optimiser(settings, generator, draft)
    best: Tensor | None = None
    losses = {"total": math.inf}
    for _ in range(settings.synthesis_steps):
        samples = draft.samples()  # [B, ...]
        terms = synthesis_terms(setup.augment(samples, random), labels, ensemble, student, settings.weights)
        values = _values(terms, settings.weights)
        if values["total"] < losses["total"]:
            best, losses = samples.detach(), values
        loss = _kept(terms, settings.weights, guard)
        if loss is not None:
            step(loss)
    learnt = None if state is None else meta_step(settings, state, generator.theta.vector.clone())
    return Round(learnt, best, labels, losses)


def _optimiser(
    settings: FedReviveSettings, generator: SampleGenerator, draft: Draft
) -> Callable[[Tensor], None]:
    """One step of a fresh Adam down a loss: theta, if it learns, and the draft's leaves."""
    theta, leaves = generator.theta, draft.leaves
    tensors, rates = list(leaves), [settings.latent_lr] * len(leaves)
    if generator.learns:
        tensors, rates = [theta.parameters, *tensors], [settings.generator_lr, *rates]
    adam = Adam(tensors, rates, betas=ADAM_BETAS)

    def step(loss: Tensor) -> None:
        theta.gradient.zero_()
        for leaf in leaves:
            leaf.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
        adam.step([theta.gradient, *gradients] if generator.learns else gradients)

    return step


def _teacher_answers(inputs: Tensor, ensemble: Ensemble, with_features: bool) -> tuple[Tensor, Tensor | None]:
    """Logits [c, B, classes] and summed distances [c] between stored and present channel statistics."""
    logits, variances, means, layers_of = [], [], [], []
    for model in ensemble.models:
        layers = statistic_layers(model.module) if with_features else []
        with recorded_inputs(layers) as features:
            logits.append(model.module(inputs))
        moments = [channel_moments(f) for f in features]
        variances.append([variance for variance, _ in moments])
        means.append([mean for _, mean in moments])
        layers_of.append(layers)
    if not layers_of[0]:
        return torch.stack(logits), None
    distances = torch.zeros(len(logits), device=inputs.device)
    for layer, variance, mean in zip(
        zip(*layers_of, strict=True), zip(*variances, strict=True), zip(*means, strict=True), strict=True
    ):
        stored_mean = torch.stack([each.running_mean for each in layer])  # [c, channels]
        stored_variance = torch.stack([each.running_var for each in layer])
        distances = distances + _norm(stored_mean - torch.stack(mean))
        distances = distances + _norm(stored_variance - torch.stack(variance))
    return torch.stack(logits), distances


def _norm(rows: Tensor) -> Tensor:
    return (rows.square().sum(dim=1) + NORM_EPS).sqrt()


def _values(terms: dict[str, Tensor], weights: SynthesisWeights) -> dict[str, float]:
    values = {name: float(term.detach()) for name, term in terms.items()}
    total = sum(getattr(weights, name) * value for name, value in values.items()) + 0.0
    return {**values, "total": total}


def _kept(terms: dict[str, Tensor], weights: SynthesisWeights, guard: LossGuard) -> Tensor | None:
    """Weighted sum of the terms the guard accepts; None when it accepts none."""
    kept = [getattr(weights, name) * term for name, term in terms.items() if guard.accepts(name, term)]
    return torch.stack(kept).sum() if kept else None

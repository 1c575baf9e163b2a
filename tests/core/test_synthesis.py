"""Synthesis losses and a whole generator round against slow float64 forms."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from fedrevive.core.augmentation import build_augmentation
from fedrevive.core.feature_statistics import statistic_layers
from fedrevive.core.generator import GeneratorState, initial_state, meta_step
from fedrevive.core.loss_guard import LossGuard
from fedrevive.core.model_state import FlatModel
from fedrevive.core.sample_generator import learning_images
from fedrevive.core.synthesis import Round, SynthesisSetup, synthesis_terms, synthesise
from fedrevive.core.teachers import Ensemble, draw_classes
from fedrevive.settings.fedrevive import ConvexReptile, FedReviveSettings, SynthesisWeights
from fedrevive.settings.model import CnnSettings
from fedrevive.tasks.federated import TaskInfo
from fedrevive.tasks.models import build_model

torch.set_num_threads(1)

INFO = TaskInfo("toy", (1, 8, 8), 3, (0.4,), (0.3,))
CPU = torch.device("cpu")
WEIGHTS = SynthesisWeights(onehot=1.0, feature_stats=0.3, adversarial=0.7)


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frozen_model(seed: int, norm: str) -> FlatModel:
    """A model with weights large enough to disagree, and feature statistics away from (0, 1)."""
    model = build_model(CnnSettings(width=4, norm=norm), INFO, seed)
    model.parameters.mul_(2.0)
    model.buffers.add_(0.5 * torch.rand(model.spec.buffer_count, generator=random(seed)))
    model.module.eval().requires_grad_(False)
    return model


def ensemble(norm: str, teachers: int = 3) -> Ensemble:
    proportions = torch.softmax(torch.randn(teachers, 3, generator=random(9)), dim=1)
    return Ensemble([frozen_model(seed, norm) for seed in range(teachers)], proportions)


def double(model: FlatModel) -> nn.Module:
    return copy.deepcopy(model.module).double()


def slow_answers(module: nn.Module, inputs: Tensor) -> tuple[Tensor, list[tuple[nn.Module, Tensor]]]:
    """Logits, and each statistic layer with its input."""
    features: list[tuple[nn.Module, Tensor]] = []
    for layer in statistic_layers(module):
        layer.register_forward_hook(lambda layer, args, _: features.append((layer, args[0])))
    logits = module(inputs)
    return logits, features


def slow_terms(
    inputs: Tensor,
    labels: Tensor,
    teachers: list[nn.Module],
    proportions: Tensor,
    student: nn.Module,
    class_weights: bool = True,
) -> dict[str, Tensor]:
    """The formulas of the module docstring, sample by sample and teacher by teacher."""
    count = len(labels)
    onehot = feature = adversarial = torch.zeros((), dtype=torch.float64)
    student_shares = torch.softmax(student(inputs), dim=1)
    for k, module in enumerate(teachers):
        logits, features = slow_answers(copy.deepcopy(module), inputs)
        shares = torch.softmax(logits, dim=1)
        weights = [
            proportions[k, y] / proportions[:, y].sum() if class_weights else 1 / len(teachers)
            for y in labels.tolist()
        ]
        for b, y in enumerate(labels.tolist()):
            onehot = onehot - weights[b] * torch.log(shares[b, y]) / count
            if int(shares[b].argmax()) == int(student_shares[b].argmax()):
                kl = (shares[b] * torch.log(shares[b] / student_shares[b])).sum()
                adversarial = adversarial - weights[b] * kl / count
        for layer, reached in features:
            for stored, present in (
                (layer.running_mean, reached.mean(dim=(0, 2, 3))),
                (layer.running_var, reached.var(dim=(0, 2, 3), correction=0)),
            ):
                feature = feature + sum(weights) * torch.sqrt(((stored - present) ** 2).sum()) / count
    return {"onehot": onehot, "feature_stats": feature, "adversarial": adversarial}


@pytest.mark.parametrize(
    ("norm", "class_weights"), [("none", True), ("batch", True), ("group", True), ("none", False)]
)
def test_each_term_equals_its_slow_form(norm: str, class_weights: bool) -> None:
    teachers, student = replace(ensemble(norm), class_weights=class_weights), frozen_model(7, norm)
    inputs = torch.randn(16, 1, 8, 8, generator=random(1))
    labels = draw_classes(teachers.proportions.mean(0)[None], 16, random(2))[0]
    fast = synthesis_terms(inputs, labels, teachers, student, WEIGHTS)
    slow = slow_terms(
        inputs.double(),
        labels,
        [double(m) for m in teachers.models],
        teachers.proportions.double(),
        double(student),
        class_weights,
    )
    assert set(fast) == set(slow)
    for name, value in slow.items():
        assert float(fast[name]) == pytest.approx(float(value), rel=1e-5, abs=1e-5), name
    assert float(slow["adversarial"]) < -1e-3, "the case must exercise the agreement mask"


def test_a_term_without_weight_or_student_is_left_out() -> None:
    teachers = ensemble("none")
    inputs, labels = torch.randn(4, 1, 8, 8, generator=random(1)), torch.tensor([0, 1, 2, 0])
    weights = SynthesisWeights(onehot=1.0, feature_stats=0.0, adversarial=1.0)
    assert set(synthesis_terms(inputs, labels, teachers, None, weights)) == {"onehot"}


@pytest.mark.parametrize("seed", range(5))
def test_adversarial_term_is_never_positive(seed: int) -> None:
    teachers = ensemble("none")
    inputs = torch.randn(32, 1, 8, 8, generator=random(seed))
    labels = torch.randint(3, (32,), generator=random(seed))
    student = frozen_model(seed, "none")
    assert float(synthesis_terms(inputs, labels, teachers, student, WEIGHTS)["adversarial"]) <= 1e-7


def test_feature_gradient_exists_where_statistics_match_exactly() -> None:
    model = frozen_model(0, "none")
    model.buffers.zero_()
    inputs = torch.zeros(4, 1, 8, 8, requires_grad=True)
    for layer in statistic_layers(model.module):
        layer.running_mean.copy_(0.0)
    teachers = Ensemble([model], torch.full((1, 3), 1 / 3))
    synthesis_terms(inputs, torch.tensor([0, 1, 2, 0]), teachers, None, WEIGHTS)["feature_stats"].backward()
    assert inputs.grad is not None
    assert bool(torch.isfinite(inputs.grad).all())


SETTINGS = FedReviveSettings(
    latent_size=6,
    generator_width=4,
    synthesis_batch=8,
    weights=WEIGHTS,
    synthesis_steps=3,
    embedding_weight=0.5,
)


def one_round(
    settings: FedReviveSettings, norm: str = "none", guard: LossGuard | None = None
) -> tuple[GeneratorState, Round, SynthesisSetup]:
    augment = build_augmentation(settings.augmentation, INFO.mean, INFO.std, CPU)
    setup = SynthesisSetup(settings, learning_images(settings, INFO.input_shape, 4, CPU), augment)
    state = initial_state(setup.generator.theta)
    teachers, student = ensemble(norm), frozen_model(7, norm)
    return state, synthesise(setup, state, teachers, student, guard or LossGuard({}), random(5)), setup


def slow_round(
    state: GeneratorState, setup: SynthesisSetup, norm: str
) -> tuple[Tensor, list[float], list[Tensor]]:
    """Adapted weights, totals and images of each step, with torch modules and optimisers in float64."""
    settings = setup.settings
    teachers, draws = ensemble(norm), random(5)
    labels = draw_classes(teachers.proportions.mean(0)[None], settings.synthesis_batch, draws)[0]
    latents = torch.randn(settings.synthesis_batch, settings.latent_size, generator=draws)
    embeddings = torch.randn(3, settings.latent_size, generator=draws)
    setup.generator.theta.load(state.parameters)
    generator = double(setup.generator.theta)
    for parameter in generator.parameters():
        parameter.grad = None
    codes, table = latents.double().requires_grad_(), embeddings.double().requires_grad_()
    weights = torch.optim.Adam(generator.parameters(), lr=settings.generator_lr, betas=(0.5, 0.999))
    inputs = torch.optim.Adam([codes, table], lr=settings.latent_lr, betas=(0.5, 0.999))
    modules, student = [double(m) for m in teachers.models], double(frozen_model(7, norm))
    totals, batches = [], []
    for _ in range(settings.synthesis_steps):
        images = generator(
            torch.stack(
                [codes[b] + settings.embedding_weight * table[y] for b, y in enumerate(labels.tolist())]
            )
        )
        terms = slow_terms(
            (images - INFO.mean[0]) / INFO.std[0], labels, modules, teachers.proportions.double(), student
        )
        total = terms["onehot"] + 0.3 * terms["feature_stats"] + 0.7 * terms["adversarial"]
        totals.append(float(total.detach()))
        batches.append(images.detach())
        weights.zero_grad()
        inputs.zero_grad()
        total.backward()
        weights.step()
        inputs.step()
    adapted = [p.detach().permute(0, 2, 3, 1) if p.dim() == 4 else p.detach() for p in generator.parameters()]
    return torch.cat([p.flatten() for p in adapted]), totals, batches


@pytest.mark.parametrize(("norm", "kept"), [("none", 4), ("batch", 3)])
def test_a_round_equals_its_slow_form(norm: str, kept: int) -> None:
    """With learning rates this large the last batch is not always the best: with BatchNorm it is the fourth of five."""
    convex = {"reptile": ConvexReptile(weight=1.0)}  # theta afterwards is what the round adapted it to
    large = {"generator_lr": 0.03, "latent_lr": 1.0, "synthesis_steps": 5}
    state, done, setup = one_round(SETTINGS.model_copy(update=convex | large), norm)
    adapted, totals, batches = slow_round(state, setup, norm)
    assert min(range(len(totals)), key=totals.__getitem__) == kept
    torch.testing.assert_close(done.generator.parameters.double(), adapted, atol=1e-5, rtol=0)
    assert float((adapted - state.parameters).abs().max()) > 0.1
    assert done.losses["total"] == pytest.approx(totals[kept], rel=1e-5)
    assert done.samples is not None
    torch.testing.assert_close(done.samples.double(), batches[kept], atol=1e-5, rtol=0)


def test_the_default_reptile_step_goes_towards_the_adapted_weights() -> None:
    state, done, _ = one_round(SETTINGS)
    adapted = one_round(SETTINGS.model_copy(update={"reptile": ConvexReptile(weight=1.0)}))[
        1
    ].generator.parameters
    expected = meta_step(SETTINGS, state, adapted)
    torch.testing.assert_close(done.generator.parameters, expected.parameters, atol=1e-6, rtol=0)
    assert not torch.equal(done.generator.parameters, adapted)


def test_a_round_is_repeatable_and_leaves_its_input_alone() -> None:
    before, first, _ = one_round(SETTINGS)
    again, second, _ = one_round(SETTINGS)
    assert torch.equal(before.parameters, again.parameters)
    assert torch.equal(first.generator.parameters, second.generator.parameters)
    assert first.samples is not None
    assert second.samples is not None
    assert torch.equal(first.samples, second.samples)


def test_training_the_generator_lowers_its_loss() -> None:
    settings = SETTINGS.model_copy(
        update={"weights": SynthesisWeights(adversarial=0.0), "generator_lr": 0.01}
    )
    augment = build_augmentation("none", INFO.mean, INFO.std, CPU)
    setup = SynthesisSetup(settings, learning_images(settings, INFO.input_shape, 4, CPU), augment)
    state, teachers, totals = initial_state(setup.generator.theta), ensemble("none", 1), []
    for number in range(60):
        done = synthesise(setup, state, teachers, None, LossGuard({}), random(number))
        state = done.generator
        totals.append(done.losses["onehot"])
    assert sum(totals[-10:]) < 0.9 * sum(totals[:10])


def test_labels_follow_the_mean_proportions_or_are_uniform() -> None:
    settings = SETTINGS.model_copy(update={"synthesis_batch": 3000, "synthesis_steps": 1})
    shares = {}
    for labels in ("mean_proxy", "uniform"):
        done = one_round(settings.model_copy(update={"labels": labels}))[1]
        shares[labels] = torch.bincount(done.labels, minlength=3) / 3000
    torch.testing.assert_close(shares["mean_proxy"], ensemble("none").proportions.mean(0), atol=0.03, rtol=0)
    torch.testing.assert_close(shares["uniform"], torch.full((3,), 1 / 3), atol=0.03, rtol=0)


def test_augmented_rounds_keep_images_that_are_not_augmented() -> None:
    settings = SETTINGS.model_copy(update={"augmentation": "crop_flip", "synthesis_steps": 1})
    plain = one_round(SETTINGS.model_copy(update={"synthesis_steps": 1}))[1]
    augmented = one_round(settings)[1]
    assert plain.samples is not None
    assert augmented.samples is not None
    assert torch.equal(plain.samples, augmented.samples)
    assert plain.losses["total"] != augmented.losses["total"]


def test_a_dropped_term_gives_no_gradient_but_still_counts_in_the_choice() -> None:
    tiny = dict.fromkeys(("onehot", "feature_stats"), (1e-09,) * 20)
    settings = SETTINGS.model_copy(update={"weights": SynthesisWeights(adversarial=0.0)})
    state, done, _ = one_round(settings, guard=LossGuard(tiny))
    assert torch.equal(done.generator.parameters, state.parameters), "no term was kept, so nothing may move"
    assert done.losses["total"] > 0.1


def test_teachers_that_are_not_finite_give_no_samples_and_leave_the_generator() -> None:
    augment = build_augmentation("none", INFO.mean, INFO.std, CPU)
    setup = SynthesisSetup(SETTINGS, learning_images(SETTINGS, INFO.input_shape, 4, CPU), augment)
    teachers, state = ensemble("none"), initial_state(setup.generator.theta)
    teachers.models[0].parameters.fill_(math.nan)
    done = synthesise(setup, state, teachers, None, LossGuard({}), random(0))
    assert done.samples is None
    assert torch.equal(done.generator.parameters, state.parameters)

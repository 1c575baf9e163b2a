"""Distillation against slow float64 forms."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch

from fedrevive.core.augmentation import build_augmentation
from fedrevive.core.distillation import DistillationSetup, Distilled, distill, distillation_loss
from fedrevive.core.loss_guard import LossGuard
from fedrevive.core.model_state import FlatModel
from fedrevive.core.remembered_answers import completed
from fedrevive.core.synthetic_pool import (
    SyntheticPool,
    appended,
    draw_by_class,
    draw_uniformly,
    empty_pool,
)
from fedrevive.core.teachers import Ensemble
from fedrevive.settings.fedrevive import FedReviveSettings
from fedrevive.settings.model import CnnSettings
from fedrevive.tasks.federated import TaskInfo
from fedrevive.tasks.models import build_model

torch.set_num_threads(1)

INFO = TaskInfo("toy", (1, 8, 8), 3, (0.4,), (0.3,))
CPU = torch.device("cpu")


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model(seed: int, norm: str = "none") -> FlatModel:
    made = build_model(CnnSettings(width=4, norm=norm), INFO, seed)
    made.parameters.mul_(2.0)
    return made


def teachers(norm: str = "none", seeds: tuple[int, ...] = (0, 1, 2)) -> Ensemble:
    models = [model(seed, norm) for seed in seeds]
    for each in models:
        each.module.eval().requires_grad_(False)
    return Ensemble(models, torch.softmax(torch.randn(len(seeds), 3, generator=random(9)), dim=1))


def pool() -> SyntheticPool:
    images = torch.rand(40, 1, 8, 8, generator=random(3))
    return appended(empty_pool(INFO.input_shape, CPU), images, torch.arange(40) % 3, 1000)


def run(
    settings: FedReviveSettings, student: FlatModel, asked: Ensemble, guard: LossGuard | None = None
) -> Distilled | None:
    augment = build_augmentation(settings.augmentation, INFO.mean, INFO.std, CPU)
    setup = DistillationSetup(settings, augment)
    return distill(setup, student, asked, pool(), guard or LossGuard({}), random(6))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_loss_equals_the_slow_form(temperature: float) -> None:
    student = 3 * torch.randn(12, 4, generator=random(0))
    teacher = 3 * torch.randn(12, 4, generator=random(1))
    expected = 0.0
    for own, other in zip(student.double().tolist(), teacher.double().tolist(), strict=True):
        s = [math.exp(v / temperature) for v in own]
        t = [math.exp(v / temperature) for v in other]
        for y in range(4):
            p, q = t[y] / sum(t), s[y] / sum(s)
            expected += temperature**2 * p * math.log(p / q) / 12
    assert float(distillation_loss(student, teacher, temperature)) == pytest.approx(expected, rel=1e-5)


def test_equal_teacher_and_student_have_no_loss_and_no_gradient() -> None:
    logits = torch.randn(6, 5, generator=random(0)).requires_grad_()
    loss = distillation_loss(logits, logits.detach(), 1.0)
    loss.backward()
    assert logits.grad is not None
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-7)
    assert float(logits.grad.abs().max()) < 1e-7


def slow_delta(
    settings: FedReviveSettings, student: FlatModel, asked: Ensemble, guard: LossGuard | None = None
) -> tuple[torch.Tensor, float]:
    """Distillation in float64: teacher by teacher, sample by sample, a per-parameter Adam."""
    guard = guard or LossGuard({}, enabled=False)
    steps, batch = settings.distill_steps, settings.distill_batch
    samples = pool()
    if asked.class_weights:
        drawn = draw_by_class(samples, asked.proportions, steps * batch, random(6))
    else:
        drawn = draw_uniformly(samples, len(asked.models), steps * batch, random(6))
    module = copy.deepcopy(student.module).double().train()
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = [p.detach().clone() for p in module.parameters()]
    kind = torch.optim.Adam if settings.distill_optimizer == "adam" else torch.optim.SGD
    optimiser = kind(module.parameters(), lr=settings.distill_lr, weight_decay=settings.distill_weight_decay)
    losses = []
    for step in range(steps):
        taken = [row[step * batch : (step + 1) * batch] for row in drawn]
        images = [(samples.samples[rows].double() - INFO.mean[0]) / INFO.std[0] for rows in taken]
        own = torch.softmax(module(torch.cat(images)), dim=1).view(len(taken), batch, -1)
        loss = torch.zeros((), dtype=torch.float64)
        for k, each in enumerate(asked.models):
            frozen = copy.deepcopy(each.module).double()
            for b in range(batch):
                target = torch.softmax(frozen(images[k][b : b + 1])[0], dim=0)
                loss = loss + (target * torch.log(target / own[k, b])).sum() / (len(taken) * batch)
        optimiser.zero_grad(
            set_to_none=False
        )  # a parameter whose gradient is None would not be stepped at all
        if guard.accepts("distillation", loss):
            loss.backward()
            losses.append(float(loss.detach()))
        optimiser.step()
    moved = [a.detach() - b for a, b in zip(module.parameters(), before, strict=True)]
    flat = [m.permute(0, 2, 3, 1).flatten() if m.dim() == 4 else m.flatten() for m in moved]
    return torch.cat(flat), sum(losses) / len(losses)


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
@pytest.mark.parametrize("steps", [1, 4])
def test_steps_equal_the_slow_form(norm: str, steps: int) -> None:
    settings = FedReviveSettings(distill_steps=steps, distill_batch=6, distill_lr=1e-4)
    student, asked = model(7, norm), teachers(norm)
    expected, loss = slow_delta(settings, student, asked)
    done = run(settings, student, asked)
    torch.testing.assert_close(done.delta.double(), expected, atol=1e-5, rtol=0)
    assert done.loss == pytest.approx(loss, rel=1e-4)
    assert float(done.delta.abs().max()) <= 1.01 * steps * settings.distill_lr


def test_sgd_equals_the_slow_form() -> None:
    settings = FedReviveSettings(
        distill_steps=4, distill_batch=6, distill_optimizer="sgd", distill_lr=0.05, distill_weight_decay=0.1
    )
    student, asked = model(7), teachers()
    expected, _ = slow_delta(settings, student, asked)
    done = run(settings, student, asked)
    torch.testing.assert_close(done.delta.double(), expected, atol=1e-5, rtol=0)
    assert float(done.delta.abs().max()) > 1e-3


def test_without_class_weights_batches_ignore_the_proportions() -> None:
    settings = FedReviveSettings(distill_steps=3, distill_batch=6, distill_lr=1e-4)
    asked = replace(teachers(), class_weights=False)
    expected, loss = slow_delta(settings, model(7), asked)
    done = run(settings, model(7), asked)
    torch.testing.assert_close(done.delta.double(), expected, atol=1e-5, rtol=0)
    other = replace(asked, proportions=asked.proportions.flip(1))
    assert torch.equal(run(settings, model(7), other).delta, done.delta)
    assert done.loss == pytest.approx(loss, rel=1e-4)


def test_blocks_of_steps_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = FedReviveSettings(distill_steps=5, distill_batch=8)
    whole = run(settings, model(7), teachers())
    monkeypatch.setattr("fedrevive.core.distillation.BLOCK_SAMPLES", 2 * 3 * 8)
    torch.testing.assert_close(run(settings, model(7), teachers()).delta, whole.delta, atol=1e-6, rtol=0)


def test_no_steps_give_exactly_nothing() -> None:
    student = model(7)
    start = student.vector.clone()
    done = run(FedReviveSettings(distill_steps=0), student, teachers())
    assert done.loss is None
    assert torch.equal(done.delta, torch.zeros(student.spec.parameter_count))
    assert torch.equal(student.vector, start)


def test_distilling_brings_the_student_closer() -> None:
    settings = FedReviveSettings(distill_steps=60, distill_batch=8, distill_lr=3e-3)
    guard = LossGuard({}, enabled=False)
    student, asked = model(7), teachers(seeds=(1,))
    inputs = (pool().samples - INFO.mean[0]) / INFO.std[0]
    answers = asked.models[0].module(inputs)
    before = float(distillation_loss(student.module(inputs), answers, 1.0).detach())
    run(settings, student, asked, guard)
    assert float(distillation_loss(student.module(inputs), answers, 1.0).detach()) < 0.5 * before


def test_a_loss_that_jumps_is_dropped() -> None:
    settings = FedReviveSettings(distill_steps=6, distill_lr=1.0)
    first = run(settings.model_copy(update={"distill_steps": 1}), model(7), teachers())
    free = run(settings, model(7), teachers(), LossGuard({}, enabled=False))
    assert first is not None
    assert free is not None
    guard = LossGuard({"distillation": (first.loss,) * 20})
    guarded = run(settings, model(7), teachers(), guard)
    assert guarded is not None
    assert free.loss > 3 * first.loss >= guarded.loss
    assert max(guard.windows["distillation"]) <= 3 * first.loss


@pytest.mark.parametrize(("optimiser", "lr"), [("adam", 0.1), ("sgd", 2.0)])
def test_a_dropped_loss_leaves_momentum_and_weight_decay(optimiser: str, lr: float) -> None:
    settings = FedReviveSettings(
        distill_steps=5, distill_batch=6, distill_optimizer=optimiser, distill_lr=lr, distill_weight_decay=0.1
    )
    first = run(settings.model_copy(update={"distill_steps": 1}), model(7), teachers())
    windows = {"distillation": (0.4 * first.loss,) * 10}
    guard, twin = LossGuard(windows), LossGuard(windows)
    done = run(settings, model(7), teachers(), guard)
    expected, loss = slow_delta(settings, model(7), teachers(), twin)
    accepted = len(guard.windows["distillation"]) - 10
    assert 0 < accepted == len(twin.windows["distillation"]) - 10 < 5
    torch.testing.assert_close(done.delta.double(), expected, atol=1e-5, rtol=0)
    assert done.loss == pytest.approx(loss, rel=1e-4)


def test_only_weight_decay_moves_a_student_whose_every_loss_was_dropped() -> None:
    settings = FedReviveSettings(
        distill_steps=3, distill_optimizer="sgd", distill_lr=0.5, distill_weight_decay=0.1
    )
    student = model(7)
    before = student.parameters.clone()
    assert run(settings, student, teachers(), LossGuard({"distillation": (1e-9,) * 20})) is None
    torch.testing.assert_close(student.parameters, before * 0.95**3, atol=1e-6, rtol=0)


def test_nothing_is_distilled_when_every_loss_was_dropped() -> None:
    guard = LossGuard({"distillation": (1e-9,) * 20})
    assert run(FedReviveSettings(distill_steps=3), model(7), teachers(), guard) is None
    assert guard.windows["distillation"] == (1e-9,) * 20


def test_augmentation_reaches_teacher_and_student_alike() -> None:
    settings = FedReviveSettings(distill_steps=3, distill_batch=8, augmentation="crop_flip")
    twin = model(1)
    done = run(settings, twin, teachers(seeds=(1,)))
    assert done.loss == pytest.approx(0.0, abs=1e-6)


def test_remembered_answers_teach_the_same() -> None:
    settings, asked = FedReviveSettings(distill_lr=0.01), teachers("batch")
    plain = build_augmentation("none", INFO.mean, INFO.std, CPU)
    answers, _ = completed((), asked.models, pool().samples, lambda images: plain(images, random(0)))
    first, second = model(7), model(7)
    expected, found = run(settings, first, asked), run(settings, second, replace(asked, answers=answers))
    assert expected is not None
    assert found is not None
    torch.testing.assert_close(found.delta, expected.delta, rtol=0, atol=1e-5)
    assert float(expected.delta.abs().max()) > 0.01
    assert found.agreement == expected.agreement
    assert found.loss == pytest.approx(expected.loss, abs=1e-5)

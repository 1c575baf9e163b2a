"""Diagnostics against slow forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrevive.core.diagnostics import (
    EnsembleAccuracy,
    mean_correlation,
    mean_entropy,
    teacher_agreement,
)
from fedrevive.core.teachers import Teacher
from fedrevive.settings.model import CnnSettings
from fedrevive.tasks.federated import TaskInfo
from fedrevive.tasks.models import build_model

INFO = TaskInfo("toy", (1, 8, 8), 3, (0.0,), (1.0,))


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def teachers(count: int):
    models = [build_model(CnnSettings(width=4), INFO, seed) for seed in range(count)]
    for model in models:
        model.parameters.mul_(3.0)
        model.module.eval()
    return models


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(2, 10), st.integers(0, 2**32))
def test_entropy_is_the_mean_over_teachers(count: int, classes: int, seed: int) -> None:
    rows = torch.softmax(3 * torch.randn(count, classes, generator=random(seed)), dim=1)
    expected = -sum(float(p) * math.log(float(p)) for p in rows.flatten() if p > 0) / count
    assert mean_entropy(rows) == pytest.approx(expected, abs=1e-5)
    assert 0 <= mean_entropy(rows) <= math.log(classes) + 1e-6


def test_entropy_of_certainty_and_of_ignorance() -> None:
    assert mean_entropy(torch.eye(4)) == 0
    assert mean_entropy(torch.full((2, 4), 0.25)) == pytest.approx(math.log(4))


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(3, 10), st.integers(0, 2**32))
def test_correlation_is_the_mean_of_pearsons(count: int, classes: int, seed: int) -> None:
    left, right = (torch.rand(count, classes, generator=random(seed + n)) for n in (0, 1))
    expected = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(left.numpy(), right.numpy(), strict=True)])
    assert mean_correlation(left, right) == pytest.approx(float(expected), abs=1e-5)


def test_rows_without_variance_have_no_correlation() -> None:
    flat, varied = torch.full((1, 3), 1 / 3), torch.tensor([[0.5, 0.3, 0.2]])
    assert mean_correlation(flat, varied) is None
    assert mean_correlation(torch.cat([flat, varied]), torch.cat([varied, varied])) == pytest.approx(1.0)


def test_agreement_equals_the_slow_form() -> None:
    models = teachers(3)
    inputs = torch.randn(30, 1, 8, 8, generator=random(5))
    agreed = 0
    for sample in inputs[::3]:
        named = {int(model.module(sample[None]).argmax()) for model in models}
        agreed += len(named) == 1
    assert 0 < agreed < 10, "the case must hold both"
    answers = [model.module(inputs[::3]) for model in models]
    assert teacher_agreement(answers) == agreed / 10
    assert teacher_agreement([answers[0]] * 2) == 1.0
    assert teacher_agreement(answers[:1]) is None


def test_ensemble_accuracy_equals_the_slow_form_while_teachers_come_and_go() -> None:
    models = teachers(4)
    buffer = [Teacher(0, number, model.vector) for number, model in enumerate(models)]
    inputs, labels = torch.randn(40, 1, 8, 8, generator=random(1)), torch.arange(40) % 3
    accuracy = EnsembleAccuracy(inputs, labels)
    for chosen in ([0], [1, 0], [2, 1, 0], [3, 2, 1], [0, 3]):
        correct = 0
        for sample, label in zip(inputs, labels, strict=True):
            shares = sum(torch.softmax(models[i].module(sample[None]).double(), dim=1) for i in chosen)
            correct += int(shares.argmax()) == int(label)
        measured = accuracy.measure(tuple(buffer[i] for i in chosen), [models[i] for i in chosen])
        assert measured == pytest.approx(correct / 40)

"""Teacher buffer, probing, workspaces."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrevive.core.model_state import FlatModel
from fedrevive.core.teachers import (
    Ensemble,
    Teacher,
    TeacherModels,
    draw_classes,
    floored,
    label_weights,
    probe,
    pushed,
    random_weights,
)
from fedrevive.settings.model import CnnSettings
from fedrevive.tasks.federated import TaskInfo
from fedrevive.tasks.models import build_model

INFO = TaskInfo("toy", (1, 8, 8), 3, (0.0,), (1.0,))


def new_model(seed: int = 0) -> FlatModel:
    return build_model(CnnSettings(width=4), INFO, seed)


def teacher(number: int) -> Teacher:
    return Teacher(number % 3, number, torch.full((2,), float(number)))


def test_buffer_is_newest_first_and_capped() -> None:
    buffer: tuple[Teacher, ...] = ()
    for number in range(5):
        buffer = pushed(buffer, teacher(number), capacity=3)
        assert [t.job for t in buffer] == list(range(number, max(-1, number - 3), -1))


def test_probe_equals_the_slow_float64_form() -> None:
    model = new_model()
    model.module.eval()
    noise = torch.randn(7, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = np.zeros(3)
    with torch.no_grad():
        for sample in noise:
            logits = model.module(sample[None])[0].double().numpy() / 0.8
            shares = [math.exp(v) for v in logits]
            for label in range(3):
                expected[label] += shares[label] / sum(shares) / 7
    np.testing.assert_allclose(probe(model, noise, 0.8).numpy(), expected, atol=1e-5)


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(2, 10), st.integers(0, 2**32))
def test_label_weights_sum_to_one_over_teachers(teachers: int, classes: int, seed: int) -> None:
    logits = torch.randn(teachers, classes, generator=torch.Generator().manual_seed(seed))
    proportions = torch.softmax(logits, dim=1)
    weights = label_weights(proportions)
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(classes))
    for k in range(teachers):
        for y in range(classes):
            column = sum(float(proportions[j, y]) for j in range(teachers))
            assert float(weights[k, y]) == pytest.approx(float(proportions[k, y]) / column, abs=1e-5)


def test_a_label_nobody_claims_gets_no_weight_and_no_nan() -> None:
    weights = label_weights(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    torch.testing.assert_close(weights, torch.tensor([[0.5, 0.0], [0.5, 0.0]]))


@settings(deadline=None)
@given(st.floats(0, 1), st.integers(0, 2**32))
def test_the_floor_mixes_with_uniform_proportions(floor: float, seed: int) -> None:
    rows = torch.softmax(4 * torch.randn(3, 5, generator=torch.Generator().manual_seed(seed)), dim=1)
    mixed = floored(rows, floor)
    torch.testing.assert_close(mixed.sum(dim=1), torch.ones(3))
    for k in range(3):
        for y in range(5):
            assert float(mixed[k, y]) == pytest.approx((1 - floor) * float(rows[k, y]) + floor / 5, abs=1e-5)


def test_without_class_weights_all_teachers_count_alike() -> None:
    proportions = torch.tensor([[1.0, 0.0], [0.3, 0.7]])
    models = [new_model(0), new_model(1)]
    torch.testing.assert_close(Ensemble(models, proportions, False).label_weights(), torch.full((2, 2), 0.5))
    torch.testing.assert_close(Ensemble(models, proportions).label_weights(), label_weights(proportions))


def test_random_weights_are_each_tensors_initial_values_in_another_order() -> None:
    model = new_model()
    model.vector.copy_(torch.arange(len(model.vector), dtype=torch.float32))
    drawn = random_weights(model.vector, model.spec, torch.Generator().manual_seed(1))
    offset = 0
    for _, shape in model.spec.parameters:
        part = slice(offset, offset := offset + math.prod(shape))
        assert not torch.equal(drawn[part], model.vector[part])
        assert torch.equal(drawn[part].sort().values, model.vector[part])
    assert torch.equal(drawn[offset:], model.vector[offset:])
    assert torch.equal(drawn, random_weights(model.vector, model.spec, torch.Generator().manual_seed(1)))


def test_draw_classes_follows_the_rows_and_never_draws_an_impossible_class() -> None:
    rows = torch.tensor([[0.0, 0.2, 0.8, 0.0], [0.5, 0.0, 0.0, 0.5]])
    drawn = draw_classes(rows, 20_000, torch.Generator().manual_seed(3))
    shares = torch.stack([torch.bincount(row, minlength=4) / 20_000 for row in drawn])
    assert torch.equal(shares == 0, rows == 0)
    torch.testing.assert_close(shares, rows, atol=0.02, rtol=0)


def test_workspaces_hold_the_right_model_whatever_was_loaded_before() -> None:
    vectors = [new_model(seed).vector.clone() for seed in range(5)]
    teachers = [
        Teacher(0, 0, vector) for vector in vectors
    ]  # equal numbers: identity must not depend on them
    models = TeacherModels(new_model)
    for chosen in ([0], [1, 0], [2, 1, 0], [3, 2, 1], [0, 4, 3], [4], [1, 2, 3, 4, 0]):
        loaded = models.load(tuple(teachers[i] for i in chosen))
        assert all(torch.equal(m.vector, vectors[i]) for m, i in zip(loaded, chosen, strict=True))
        assert not any(m.module.training for m in loaded)


def test_workspaces_reload_only_what_changed() -> None:
    made = []
    models = TeacherModels(lambda: made.append(new_model()) or made[-1])
    buffer: tuple[Teacher, ...] = ()
    for number in range(20):
        buffer = pushed(buffer, Teacher(0, number, new_model(number).vector.clone()), capacity=3)
        before = {id(m): m.vector.clone() for m in made}
        models.load(buffer)
        changed = [m for m in made if id(m) not in before or not torch.equal(before[id(m)], m.vector)]
        assert len(changed) == 1
    assert len(made) == 3

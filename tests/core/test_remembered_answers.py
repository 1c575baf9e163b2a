"""Remembered answers against asking again, through any order of teachers, additions and distillations."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrevive.core.remembered_answers import (
    CHUNK,
    PlannedAnswers,
    after_admission,
    after_dropping,
    completed,
)
from fedrevive.settings.errors import UserError
from fedrevive.settings.loading import load
from fedrevive.settings.model import CnnSettings
from fedrevive.tasks.federated import TaskInfo
from fedrevive.tasks.models import build_model

INFO = TaskInfo("toy", (1, 8, 8), 3, (0.0,), (1.0,))
MODELS = [build_model(CnnSettings(width=4), INFO, seed) for seed in range(6)]
for _model in MODELS:
    _model.module.eval()


@torch.no_grad()
def asked_again(models, images):
    return [model.module(images) for model in models]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from(["admit", "append", "distil"]), max_size=14),
    st.integers(1, 4),
    st.integers(1, 12),
)
def test_they_are_what_the_teachers_would_say_and_as_many_as_planned(steps, teachers, capacity) -> None:
    random = torch.Generator().manual_seed(capacity)
    buffer, pool, answers = [], torch.empty(0, 1, 8, 8), ()
    planned = PlannedAnswers(teachers, capacity)
    for number, step in enumerate(["admit", "append", *steps, "distil"]):
        if step == "admit":
            buffer = [MODELS[number % len(MODELS)], *buffer][:teachers]
            answers = after_admission(answers, teachers)
            planned.admitted()
        elif step == "append":
            answers = after_dropping(answers, max(0, len(pool) + 5 - capacity))
            pool = torch.cat([pool, torch.rand(5, 1, 8, 8, generator=random)])[-capacity:]
            planned.appended(5)
        else:
            answers, asked = completed(answers, buffer, pool, lambda images: images)
            assert asked == planned.completed()
            for remembered, again in zip(answers, asked_again(buffer, pool), strict=True):
                torch.testing.assert_close(remembered, again, rtol=0, atol=1e-5)


def test_nobody_is_asked_twice() -> None:
    images = torch.rand(CHUNK + 3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    answers, asked = completed((), MODELS[:2], images, lambda chunk: chunk)
    assert asked == 2 * (CHUNK + 3)
    same, asked = completed(answers, MODELS[:2], images, lambda chunk: chunk)
    assert asked == 0
    assert all(torch.equal(a, b) for a, b in zip(answers, same, strict=True))


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("algorithm.augmentation=crop_flip", "use distill_augmentation=none"),
        ("algorithm.distill_augmentation=crop_flip", "use distill_augmentation=none"),
        ("algorithm.pool_capacity=2561", "lower pool_capacity"),
        ("algorithm.distill_steps=0", "asks for 119 samples a version, where 0 are drawn"),
        ("algorithm.generate_every_versions=1 algorithm.synthesis_batch=400", "asks for 1300 samples"),
        ("algorithm.reviver.kind=teacher_mean", "asks no teacher"),
    ],
)
def test_where_they_do_not_fit_they_are_refused(override, told) -> None:
    with pytest.raises(UserError, match=told):
        load(
            "digits",
            [
                "algorithm.name=fedrevive",
                "algorithm.pool_capacity=100",
                "algorithm.remember_answers=true",
                *override.split(),
            ],
        )

"""The loss guard's window."""

from __future__ import annotations

import math

import torch

from fedrevive.core.loss_guard import LossGuard


def accepts(guard: LossGuard, value: float, name: str = "onehot") -> bool:
    return guard.accepts(name, torch.tensor(value))


def test_judges_only_after_ten_values() -> None:
    guard = LossGuard({})
    for _ in range(9):
        assert accepts(guard, 1.0)
    assert accepts(guard, 100.0)
    assert not accepts(guard, 1000.0)


def test_threshold_is_three_means_and_dropped_values_are_forgotten() -> None:
    guard = LossGuard({"onehot": (1.0,) * 10})
    assert not accepts(guard, 3.001)
    assert guard.windows["onehot"] == (1.0,) * 10
    assert accepts(guard, 3.0)
    assert guard.windows["onehot"] == (*(1.0,) * 10, 3.0)


def test_window_keeps_twenty_values() -> None:
    guard = LossGuard({})
    for value in range(1, 31):
        assert accepts(guard, float(value))
    assert guard.windows["onehot"] == tuple(float(v) for v in range(11, 31))


def test_values_that_are_not_finite_are_dropped_at_once() -> None:
    guard = LossGuard({})
    assert not any(accepts(guard, value) for value in (math.nan, math.inf, -math.inf))
    assert guard.windows == {}


def test_negative_means_never_drop() -> None:
    guard = LossGuard({"adversarial": (-1.0,) * 20})
    assert accepts(guard, -0.001, "adversarial")


def test_names_are_separate_and_the_given_windows_stay() -> None:
    given = {"onehot": (1.0,) * 20}
    guard = LossGuard(given)
    assert accepts(guard, 50.0, "feature_stats")
    assert accepts(guard, 2.0)
    assert given == {"onehot": (1.0,) * 20}


def test_switched_off_accepts_everything() -> None:
    guard = LossGuard({"onehot": (1.0,) * 20}, enabled=False)
    assert accepts(guard, math.nan)
    assert accepts(guard, 1e9)

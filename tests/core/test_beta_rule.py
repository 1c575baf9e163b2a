"""beta(tau) from settings: what `auto` means, and the memory of the self-adaptive families."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrevive.core import schedules
from fedrevive.core.beta_rule import BetaRule, beta_rule
from fedrevive.settings.schedules import (
    ConstantBeta,
    ExponentialBeta,
    LinearBeta,
    OneMinusCosineBeta,
    PolynomialBeta,
    RunningQuantileBeta,
    SigmoidBeta,
    StepwiseBeta,
    VarianceDrivenBeta,
)


def rule(settings, concurrency: int = 100, updates: int = 1) -> BetaRule:
    return beta_rule(settings, concurrency=concurrency, updates_per_version=updates)


@pytest.mark.parametrize(
    ("settings", "at_100"),
    [
        (OneMinusCosineBeta(), schedules.one_minus_cosine(half_staleness=75)),
        (ExponentialBeta(), schedules.exponential(rate=0.005)),
        (LinearBeta(), schedules.linear(slope=0.005)),
        (StepwiseBeta(), schedules.stepwise(horizon=150)),
        (PolynomialBeta(exponent=3.0), schedules.polynomial(exponent=3.0, horizon=150)),
        (SigmoidBeta(), schedules.sigmoid(midpoint=75, slope=math.pi / 75)),
    ],
    ids=lambda value: getattr(value, "family", ""),
)
def test_auto_is_the_published_constant_at_k_100_and_scales_with_k_over_b(settings, at_100) -> None:
    published, smaller = rule(settings), rule(settings, concurrency=20, updates=2)
    assert published.window == 0
    for tau in range(0, 400, 10):
        assert published.schedule(())(tau) == pytest.approx(at_100(tau))
        assert smaller.schedule(())(tau // 10) == pytest.approx(at_100(tau))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (OneMinusCosineBeta(half_staleness=4.0), schedules.one_minus_cosine(half_staleness=4.0)),
        (ExponentialBeta(rate=0.3), schedules.exponential(rate=0.3)),
        (LinearBeta(slope=0.3), schedules.linear(slope=0.3)),
        (StepwiseBeta(horizon=9.0), schedules.stepwise(horizon=9.0)),
        (StepwiseBeta(thresholds=(1, 2, 7, 9)), schedules.stepwise(thresholds=(1, 2, 7, 9))),
        (PolynomialBeta(horizon=9.0), schedules.polynomial(exponent=2.0, horizon=9.0)),
        (SigmoidBeta(midpoint=5.0, slope=0.7), schedules.sigmoid(midpoint=5.0, slope=0.7)),
        (ConstantBeta(value=0.75), schedules.constant(value=0.75)),
    ],
    ids=lambda value: getattr(value, "family", ""),
)
def test_given_parameters_ignore_k_and_b(settings, expected) -> None:
    assert [rule(settings, 3, 2).schedule(())(tau) for tau in range(30)] == [
        expected(tau) for tau in range(30)
    ]


@pytest.mark.parametrize("settings", [OneMinusCosineBeta(), ConstantBeta(), StepwiseBeta()])
def test_other_families_remember_nothing(settings) -> None:
    assert rule(settings).evaluate((), 50) == (rule(settings).schedule(())(50), ())


@settings(deadline=None)
@given(st.lists(st.integers(0, 500), max_size=60), st.sampled_from([RunningQuantileBeta, VarianceDrivenBeta]))
def test_adaptive_families_judge_an_upload_by_those_before_it(staleness, family) -> None:
    adaptive = rule(family(window=12), concurrency=8)
    prior = schedules.one_minus_cosine(half_staleness=0.75 * 8)
    observed: tuple[int, ...] = ()
    for number, tau in enumerate(staleness):
        before = staleness[max(0, number - 12) : number]
        assert observed == tuple(before)
        if number < 8:
            expected = prior(tau)
        elif family is RunningQuantileBeta:
            expected = schedules.running_quantile(quantile=0.5, observed=before)(tau)
        else:
            expected = schedules.variance_driven(deviations=1.0, observed=before)(tau)
        beta, observed = adaptive.evaluate(observed, tau)
        assert beta == expected


def test_adaptive_families_follow_a_change_of_staleness() -> None:
    adaptive, observed = rule(RunningQuantileBeta(), concurrency=10), ()
    for tau in [20] * 100:
        beta, observed = adaptive.evaluate(observed, tau)
    assert beta == pytest.approx(0.5)
    for tau in [200] * 20:
        beta, observed = adaptive.evaluate(observed, tau)
    assert beta == 1.0, "a minority of slow updates is judged by the majority"
    for tau in [200] * 50:
        beta, observed = adaptive.evaluate(observed, tau)
    assert beta == pytest.approx(0.5)
    assert len(observed) == 50

"""beta(tau), s(tau) and the gates."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrevive.core import schedules
from fedrevive.settings.fedrevive import FedReviveSettings
from fedrevive.settings.schedules import HingeWeight, PolynomialWeight


def test_one_minus_cosine_published_values() -> None:
    beta = schedules.one_minus_cosine(half_staleness=75)
    published = {10: 0.011, 25: 0.067, 50: 0.25, 75: 0.5, 99: 0.741, 125: 0.933, 150: 1.0, 10_000: 1.0}
    assert {tau: round(beta(tau), 3) for tau in published} == published


staleness_values = st.integers(0, 10**6)
horizons = st.floats(1e-3, 1e7)
FAMILIES = {
    "one_minus_cosine": st.builds(lambda h: schedules.one_minus_cosine(half_staleness=h), horizons),
    "exponential": st.builds(lambda r: schedules.exponential(rate=r), st.floats(1e-7, 1e4)),
    "linear": st.builds(lambda s: schedules.linear(slope=s), st.floats(1e-9, 1e4)),
    "stepwise": st.builds(lambda h: schedules.stepwise(horizon=h), horizons),
    "thresholds": st.lists(horizons, min_size=4, max_size=4, unique=True).map(
        lambda t: schedules.stepwise(thresholds=sorted(t))
    ),
    "polynomial": st.builds(
        lambda e, h: schedules.polynomial(exponent=e, horizon=h), st.floats(0.01, 50), horizons
    ),
    "sigmoid": st.builds(lambda m, s: schedules.sigmoid(midpoint=m, slope=s), horizons, st.floats(1e-6, 1e4)),
    "running_quantile": st.builds(
        lambda q, o: schedules.running_quantile(quantile=q, observed=o),
        st.floats(0.01, 0.99),
        st.lists(staleness_values, min_size=1, max_size=30),
    ),
    "variance_driven": st.builds(
        lambda d, o: schedules.variance_driven(deviations=d, observed=o),
        st.floats(0, 10),
        st.lists(staleness_values, min_size=1, max_size=30),
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
@settings(deadline=None)
@given(data=st.data(), staleness=staleness_values)
def test_every_adaptive_family_is_a_monotone_share(family: str, data, staleness: int) -> None:
    beta = data.draw(FAMILIES[family])
    later = data.draw(st.integers(staleness + 1, 2 * 10**6))
    assert beta(0) == 0.0
    assert 0.0 <= beta(staleness) <= beta(staleness + 1) <= 1.0
    assert beta(staleness) <= beta(later)


def test_families_by_their_formulas() -> None:
    for tau in (0, 1, 37, 75, 149, 150, 400):
        assert schedules.exponential(rate=0.005)(tau) == pytest.approx(1 - math.exp(-0.005 * tau))
        assert schedules.linear(slope=0.005)(tau) == pytest.approx(min(1, 0.005 * tau))
        assert schedules.polynomial(exponent=1.7, horizon=150)(tau) == pytest.approx(
            min(1, (tau / 150) ** 1.7)
        )
        raw = [1 / (1 + math.exp(-0.04 * (t - 75))) for t in (0, tau)]
        expected = (raw[1] - raw[0]) / (1 - raw[0])
        assert schedules.sigmoid(midpoint=75, slope=0.04)(tau) == pytest.approx(expected)


def test_stepwise_steps_at_the_quarters_of_its_horizon() -> None:
    beta = schedules.stepwise(horizon=150)
    assert [beta(tau) for tau in (0, 37, 38, 74, 75, 112, 113, 149, 150, 10**6)] == (
        [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1, 1]
    )
    given_steps = schedules.stepwise(thresholds=[1, 2, 30, 31])
    assert [given_steps(tau) for tau in (0, 1, 2, 29, 30, 31)] == [0, 0.25, 0.5, 0.5, 0.75, 1]


@pytest.mark.parametrize("wrong", [{}, {"horizon": 3, "thresholds": [1, 2, 3, 4]}, {"thresholds": [1, 2, 3]},
                                   {"thresholds": [1, 3, 2, 4]}, {"thresholds": [1, 1, 2, 3]},
                                   {"thresholds": [0, 1, 2, 3]}, {"horizon": 0}])  # fmt: skip
def test_stepwise_refuses_thresholds_that_are_no_steps(wrong) -> None:
    with pytest.raises(ValueError, match="threshold"):
        schedules.stepwise(**wrong)


@settings(deadline=None)
@given(st.floats(0, 1), staleness_values)
def test_constant_holds_everywhere(value: float, staleness: int) -> None:
    assert schedules.constant(value=value)(staleness) == value


@settings(deadline=None)
@given(st.lists(staleness_values, min_size=1, max_size=50), st.floats(0.01, 0.99), st.floats(0, 5))
def test_adaptive_horizons_equal_numpys_statistics(observed, quantile: float, deviations: float) -> None:
    half = max(0.5, float(np.quantile(observed, quantile)))
    end = max(1.0, float(np.mean(observed) + deviations * np.std(observed)))
    by_quantile = schedules.running_quantile(quantile=quantile, observed=observed)
    by_spread = schedules.variance_driven(deviations=deviations, observed=observed)
    for tau in {*observed, 1, 1000}:
        assert by_quantile(tau) == pytest.approx(
            schedules.one_minus_cosine(half_staleness=half)(tau), abs=1e-6
        )
        assert by_spread(tau) == pytest.approx(
            schedules.one_minus_cosine(half_staleness=end / 2)(tau), abs=1e-6
        )


def test_staleness_weights() -> None:
    polynomial = schedules.staleness_weight(PolynomialWeight(exponent=0.5))
    assert [polynomial(0), polynomial(3)] == [1.0, 0.5]
    hinge = schedules.staleness_weight(HingeWeight(slope=10.0, grace=4.0))
    assert [hinge(0), hinge(4), hinge(5), hinge(6)] == pytest.approx([1.0, 1.0, 1 / 11, 1 / 21])


def test_gates_of_the_published_example() -> None:
    gates = schedules.gates(FedReviveSettings(), concurrency=100, updates_per_version=1)
    assert (gates.freeze, gates.warmup, gates.generate_every) == (50, 100, 10)
    assert [v for v in range(120) if gates.synthesises(v, generated_version=-1)] == list(range(50, 120, 10))
    assert not gates.synthesises(60, generated_version=60)
    assert gates.adversarial(100)
    assert not gates.distils(100)
    assert gates.distils(101)


def test_planning_needs_no_torch() -> None:
    code = (
        "import sys, fedrevive.core.beta_rule, fedrevive.core.flops, fedrevive.algorithms as a;"
        "from fedrevive.settings.algorithm import FedAvgSettings, FedBuffSettings;"
        "assert a.dispatch_of(FedAvgSettings()) == 'cohort';"
        "assert a.dispatch_of(FedBuffSettings()) == 'continuous';"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

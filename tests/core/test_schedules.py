"""beta(tau), s(tau) and the gates."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrevive.core import schedules
from fedrevive.settings.algorithm import FedReviveSettings
from fedrevive.settings.schedules import ConstantBeta, HingeWeight, OneMinusCosineBeta, PolynomialWeight

halves = st.floats(0.01, 1e6)


@given(halves, st.integers(0, 10**7))
def test_one_minus_cosine_is_a_monotone_share(half: float, staleness: int) -> None:
    beta = schedules.one_minus_cosine(half_staleness=half)
    assert beta(0) == 0.0
    assert 0.0 <= beta(staleness) <= beta(staleness + 1) <= 1.0
    assert beta(math.ceil(2 * half)) == 1.0


def test_one_minus_cosine_published_values() -> None:
    beta = schedules.one_minus_cosine(half_staleness=75)
    published = {10: 0.011, 25: 0.067, 50: 0.25, 75: 0.5, 99: 0.741, 125: 0.933, 150: 1.0, 10_000: 1.0}
    assert {tau: round(beta(tau), 3) for tau in published} == published


@pytest.mark.parametrize(("concurrency", "updates", "half"), [(100, 1, 75.0), (20, 2, 7.5), (1, 1, 0.75)])
def test_auto_half_staleness_scales_with_concurrency(concurrency: int, updates: int, half: float) -> None:
    auto = schedules.beta_schedule(OneMinusCosineBeta(), concurrency=concurrency, updates_per_version=updates)
    explicit = schedules.one_minus_cosine(half_staleness=half)
    assert [auto(tau) for tau in range(200)] == [explicit(tau) for tau in range(200)]


def test_configured_half_staleness_ignores_concurrency() -> None:
    beta = schedules.beta_schedule(
        OneMinusCosineBeta(half_staleness=4.0), concurrency=100, updates_per_version=1
    )
    assert beta(4) == pytest.approx(0.5)


def test_constant_beta_holds_at_zero_staleness() -> None:
    beta = schedules.beta_schedule(ConstantBeta(value=0.75), concurrency=3, updates_per_version=1)
    assert [beta(0), beta(99)] == [0.75, 0.75]


def test_staleness_weights() -> None:
    polynomial = schedules.staleness_weight(PolynomialWeight(exponent=0.5))
    assert [polynomial(0), polynomial(3)] == [1.0, 0.5]
    hinge = schedules.staleness_weight(HingeWeight(slope=10.0, grace=4.0))
    assert [hinge(0), hinge(4), hinge(5), hinge(6)] == pytest.approx([1.0, 1.0, 1 / 11, 1 / 21])


def test_gates_of_the_published_example() -> None:
    gates = schedules.gates(FedReviveSettings(), concurrency=100)
    assert (gates.freeze, gates.warmup, gates.generate_every) == (50, 100, 10)
    assert [v for v in range(120) if gates.synthesises(v, generated_version=-1)] == list(range(50, 120, 10))
    assert not gates.synthesises(60, generated_version=60)
    assert gates.adversarial(100)
    assert not gates.distils(100)
    assert gates.distils(101)


def test_planning_needs_no_torch() -> None:
    code = (
        "import sys, fedrevive.core.schedules, fedrevive.core.flops, fedrevive.algorithms as a;"
        "from fedrevive.settings.algorithm import FedAvgSettings, FedBuffSettings;"
        "assert a.dispatch_of(FedAvgSettings()) == 'cohort';"
        "assert a.dispatch_of(FedBuffSettings()) == 'continuous';"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

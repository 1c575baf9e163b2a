"""Delay models: published moments, separate streams, purity."""

import numpy as np
import pytest
from pydantic import TypeAdapter

from fedrevive.settings.delays import DelaySettings
from fedrevive.simulation.delays import NANOSECONDS, sample_durations

ADAPTER: TypeAdapter[DelaySettings] = TypeAdapter(DelaySettings)
KINDS = [
    "fedrevive_default", "fedrevive_shifted", "constant", "uniform", "half_normal", "exponential",
    "shifted_exponential", "lognormal", "pareto", "two_speed",
]  # fmt: skip


def delays(kind: str, **fields: float) -> DelaySettings:
    return ADAPTER.validate_python({"kind": kind, **fields})


def sampled(settings: DelaySettings, clients: int = 2000, jobs: int = 100, seed: int = 1):
    durations = sample_durations(settings, seed, clients, range(jobs))
    return durations.trained / NANOSECONDS, durations.arrives / NANOSECONDS


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_is_pure_finite_and_ordered(kind):
    settings = delays(kind)
    whole = sample_durations(settings, 3, 50, range(20))
    part = sample_durations(settings, 3, 50, range(7, 9))
    np.testing.assert_array_equal(whole.arrives[7:9], part.arrives)
    assert whole.trained.dtype == np.int64
    assert (whole.trained >= 0).all()
    assert (whole.arrives >= whole.trained).all()
    if kind not in ("constant", "two_speed"):
        assert (sample_durations(settings, 4, 50, range(20)).arrives != whole.arrives).any()


@pytest.mark.parametrize(
    "kind", ["constant", "uniform", "half_normal", "exponential", "shifted_exponential", "lognormal"]
)
def test_unit_mean_menu_has_unit_mean(kind):
    trained, _ = sampled(delays(kind))
    assert trained.mean() == pytest.approx(1.0, rel=0.01)


def test_pareto_is_capped_and_two_speed_is_static():
    trained, _ = sampled(delays("pareto", cap=10.0))
    assert trained.max() == pytest.approx(10.0)
    assert np.median(trained) < 0.6
    trained, _ = sampled(delays("two_speed"), clients=5000, jobs=3)
    assert set(np.unique(trained)) == {1.0, 10.0}
    assert (trained == trained[0]).all()
    assert (trained[0] == 10).mean() == pytest.approx(0.2, abs=0.02)


def test_published_default_schedule():
    trained, arrives = sampled(delays("fedrevive_default"))
    per_client = (trained - 0.1).mean(axis=0)
    assert per_client.mean() == pytest.approx(0.25 * 1.0 + 0.5 * 1.3 + 0.25 * 1.6, rel=0.01)
    uploads = arrives - trained
    assert 0.129 < uploads.min() < 0.14
    assert 0.26 < uploads.max() <= 0.2701
    middle = uploads.mean(axis=0)
    assert ((middle < 0.2).mean()) == pytest.approx(0.5, abs=0.05)


def test_published_shifted_schedule():
    trained, arrives = sampled(delays("fedrevive_shifted"))
    assert (trained - 0.02).mean() == pytest.approx(0.1, rel=0.01)
    uploads = arrives - trained
    assert uploads.min() > 0.0399
    assert uploads.max() < 0.1101


def test_static_speed_is_separate_from_noise():
    equal, _ = sampled(delays("exponential"), clients=300, jobs=400)
    spread, _ = sampled(delays("exponential", client_sigma=0.8), clients=300, jobs=400)
    factor = spread / equal
    np.testing.assert_allclose(spread, equal * np.median(factor, axis=0), atol=1e-8)
    assert np.log(np.median(factor, axis=0)).std() == pytest.approx(0.8, rel=0.1)


def test_huge_durations_are_cut_before_they_overflow():
    trained, _ = sampled(delays("lognormal", sigma=5.0, mean=1e6, client_sigma=5.0), clients=2000, jobs=50)
    assert trained.max() <= 1e9
    assert (trained >= 0).all()

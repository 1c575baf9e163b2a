"""Feature-statistic buffers of new server models: reset or convex average, never a scaled delta."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedrevive.algorithms import build_algorithm
from fedrevive.core.feature_statistics import statistic_layers
from fedrevive.core.messages import ModelSnapshot
from fedrevive.settings.algorithm import (
    AflDwSettings,
    AlgorithmSettings,
    FedAsyncSettings,
    FedBuffSettings,
    FedReviveSettings,
)
from fedrevive.settings.schedules import PolynomialWeight

SMALL_FEDREVIVE = FedReviveSettings(
    teacher_capacity=2,
    generate_every_versions=4,
    freeze_versions=2,
    warmup_versions=4,
    synthesis_batch=8,
    latent_size=4,
    generator_width=4,
    distill_steps=2,
    distill_batch=4,
)


@pytest.mark.parametrize(
    "settings",
    [FedBuffSettings(), FedAsyncSettings(), AflDwSettings(), SMALL_FEDREVIVE],
    ids=lambda s: s.name,
)
@pytest.mark.parametrize("lr", [0.5, 1.0, 3.0])
def test_batch_norm_variances_stay_non_negative(
    settings: AlgorithmSettings, lr: float, drive, context_of
) -> None:
    if settings.name == "fedasync" and lr > 1:
        pytest.skip("fedasync's alpha is at most 1")
    model = context_of("batch").new_model()
    for state, _ in drive(settings, arrivals=40, norm="batch", concurrency=10, lr=lr):
        model.load(state.model)
        assert all(float(layer.running_var.min()) >= 0 for layer in statistic_layers(model.module))
        assert bool(torch.isfinite(state.model).all())


@pytest.mark.parametrize("norm", ["none", "group"])
def test_trackers_restart_in_every_version(norm: str, drive, context_of) -> None:
    count = context_of(norm).spec.parameter_count
    initial = context_of(norm).initial_model[count:]
    for state, _ in drive(FedBuffSettings(), arrivals=6, norm=norm, lr=0.7, updates=2):
        assert torch.equal(state.model[count:], initial)
        assert state.buffer_sum is None


def test_average_is_convex_over_the_buffer_of_updates(config_of, context_of, update_of) -> None:
    context = context_of("batch")
    count = context.spec.parameter_count
    algorithm = build_algorithm(config_of(FedBuffSettings(), lr=0.25, updates=2), context)
    state = algorithm.init()
    base = ModelSnapshot(0, state.model.numpy())
    updates = [update_of(base, context, client, client) for client in (0, 1)]
    for update in updates:
        state, _ = algorithm.apply(state, base, update)
    mean = np.mean([update.model[count:] for update in updates], axis=0)
    expected = 0.75 * base.model[count:] + 0.25 * mean
    np.testing.assert_allclose(state.model[count:].numpy(), expected, rtol=1e-6)


def test_fedasync_average_is_weighted_by_staleness(config_of, context_of, update_of) -> None:
    context = context_of("batch")
    count = context.spec.parameter_count
    settings = FedAsyncSettings(staleness_weight=PolynomialWeight(exponent=1.0))
    algorithm = build_algorithm(config_of(settings, lr=0.5), context)
    state = algorithm.init()
    base = ModelSnapshot(0, state.model.numpy())
    fresh, stale = (update_of(base, context, client, client) for client in (0, 1))
    state, _ = algorithm.apply(state, base, fresh)
    own = state.model[count:].numpy().copy()
    state, info = algorithm.apply(state, base, stale)
    assert info.staleness_weight == 0.5
    np.testing.assert_allclose(
        state.model[count:].numpy(), 0.75 * own + 0.25 * stale.model[count:], rtol=1e-6
    )

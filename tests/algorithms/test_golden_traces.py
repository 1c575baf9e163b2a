"""FedAvg, FedAsync, FedBuff, AFL-DW and FedRevive on two parameters, against traces computed by hand.

Client i descends |x - target_i|^2 / 2 once with step 1/2, so it returns the midpoint of its base and its target:
client 0 has target (4, 0), client 1 has target (0, 8); the server starts at (0, 0).
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedrevive.algorithms import ServerState, build_algorithm
from fedrevive.core.messages import ClientUpdate, ModelSnapshot, StepInfo
from fedrevive.settings.algorithm import (
    AflDwSettings,
    FedAsyncSettings,
    FedAvgSettings,
    FedBuffSettings,
)
from fedrevive.settings.schedules import HingeWeight, OneMinusCosineBeta, PolynomialWeight


def models(steps: list[tuple[ServerState, StepInfo]]) -> list[list[float]]:
    return [state.model.tolist() for state, _ in steps]


def test_fedavg_waits_for_its_cohort(trace) -> None:
    steps = trace(FedAvgSettings(), [(0, 0), (1, 0), (1, 2), (0, 2)], concurrency=2, lr=1.0)
    assert models(steps) == [[0, 0], [1, 2], [1, 2], [1.5, 3]]
    assert [info.new_version for _, info in steps] == [0, 1, 1, 2]
    assert [info.staleness for _, info in steps] == [0, 0, 0, 0]
    assert [state.pending for state, _ in steps] == [1, 0, 1, 0]


def test_fedasync_moves_the_current_model_towards_the_client(trace) -> None:
    # s = (1 + tau)^-1: the second upload is one version stale, so alpha = 1/2 * 1/2.
    settings = FedAsyncSettings(staleness_weight=PolynomialWeight(exponent=1.0))
    steps = trace(settings, [(0, 0), (1, 0), (0, 2)], concurrency=2, lr=0.5)
    assert models(steps) == [[1, 0], [0.75, 1], [1.5625, 0.75]]
    assert [info.staleness_weight for _, info in steps] == [1.0, 0.5, 1.0]
    assert [info.client_delta_norm for _, info in steps] == pytest.approx([2, 4, math.hypot(1.625, 0.5)])


def test_fedasync_hinge(trace) -> None:
    settings = FedAsyncSettings(staleness_weight=HingeWeight(slope=1.0, grace=0.5))
    steps = trace(settings, [(0, 0), (0, 0), (0, 0)], concurrency=3, lr=1.0)
    assert [info.staleness_weight for _, info in steps] == pytest.approx([1, 1 / 1.5, 1 / 2.5])


def test_fedbuff_averages_b_updates(trace) -> None:
    arrivals = [(0, 0), (1, 0), (0, 0), (1, 2)]
    steps = trace(FedBuffSettings(), arrivals, concurrency=4, lr=1.0, updates=2)
    # the last two deltas: (2, 0) from the first base, ((0, 8) - (1, 2)) / 2 from the second.
    assert models(steps) == [[0, 0], [1, 2], [1, 2], [1.75, 3.5]]
    assert [info.staleness for _, info in steps] == [0, 0, 1, 0]
    assert [info.staleness_weight for _, info in steps] == [1, 1, 1, 1]


def test_fedbuff_divides_by_b_not_by_the_weights(trace) -> None:
    settings = FedBuffSettings(staleness_weight=PolynomialWeight(exponent=1.0))
    arrivals = [(0, 0), (1, 0), (0, 0), (1, 2)]
    steps = trace(settings, arrivals, concurrency=4, lr=1.0, updates=2)
    assert models(steps) == [[0, 0], [1, 2], [1, 2], [1.25, 3.5]]


def test_afl_dw_weighs_stale_updates_down_after_the_warm_up(trace) -> None:
    settings = AflDwSettings(beta=OneMinusCosineBeta(half_staleness=1.0), warmup_versions=1)
    steps = trace(settings, [(0, 0), (1, 0), (0, 1), (1, 0)], concurrency=4, lr=1.0)
    # version 2, tau 1: beta 1/2 of ((4, 0) - (2, 0)) / 2; version 3, tau 3 >= 2: nothing is left.
    assert models(steps)[:2] == [[2, 0], [2, 4]]
    np.testing.assert_allclose(models(steps)[2:], [[2.5, 4], [2.5, 4]], atol=1e-6)
    assert [info.beta for _, info in steps] == pytest.approx([0, 0, 0.5, 1.0])


def test_fedrevive_blends_in_what_the_newest_model_teaches(trace, small, two_logits) -> None:
    # The parameters are two logits, scaled by whatever the generator's only pixel shows; c = 1, so an upload's own
    # model is the only teacher; a fresh Adam's first step moves both parameters by 1/8, whatever the gradient's size.
    # Upload 1 is fresh. Upload 2, (0, 4) from (0, 0), tau 1: beta 1/2. It prefers class 1, the server model (2, 0)
    # class 0: the student moves by (-1/8, 1/8), half of it and half of (0, 4) are taken.
    # Upload 3, (2, 0) from (0, 0), tau 2: beta 1, its own delta is not taken. It prefers class 0 and the server model
    # class 1 by now: all of (1/8, -1/8).
    settings = small(
        beta=OneMinusCosineBeta(half_staleness=1.0),
        teacher_capacity=1,
        generate_every_versions=1,
        freeze_versions=0,
        warmup_versions=0,
        distill_steps=1,
        distill_lr=0.125,
        distill_weight_decay=0.0,
    )
    steps = trace(settings, [(0, 0), (1, 0), (0, 0)], context=two_logits(), concurrency=3, lr=1.0)
    by_hand = [[2, 0], [2 - 1 / 16, 2 + 1 / 16], [2 + 1 / 16, 2 - 1 / 16]]
    np.testing.assert_allclose(models(steps), by_hand, atol=1e-5)
    assert [info.beta for _, info in steps] == pytest.approx([0, 0.5, 1])
    assert [info.pool_size for _, info in steps] == [0, 8, 16]
    for _, info in steps[1:]:
        assert info.distilled_delta_norm == pytest.approx(math.sqrt(2) / 8, rel=1e-5)
        assert info.delta_cosine == pytest.approx(math.sqrt(0.5), rel=1e-5)


def test_a_base_from_the_future_is_refused(config_of, quadratic) -> None:
    algorithm = build_algorithm(config_of(FedBuffSettings()), quadratic())
    base = ModelSnapshot(1, np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="base version 1 is newer than server version 0"):
        algorithm.apply(algorithm.init(), base, ClientUpdate(0, 0, base.model, 1, 0.0))


def test_a_vector_of_the_wrong_length_is_refused(config_of, quadratic) -> None:
    algorithm = build_algorithm(config_of(FedBuffSettings()), quadratic())
    base = ModelSnapshot(0, np.zeros(2, np.float32))
    with pytest.raises(ValueError, match=r"update has shape \(3,\), expected \(2,\)"):
        algorithm.apply(algorithm.init(), base, ClientUpdate(0, 0, np.zeros(3, np.float32), 1, 0.0))

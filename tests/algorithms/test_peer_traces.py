"""CA2FL, FADAS, AsyncFedED, FedFa and PORT on a two-parameter quadratic, against traces computed by hand.

A client returns the midpoint of its base and its target, so delta = (target - base)/2. Client 0 has target (4, 0),
client 1 (0, 8); the server starts at (0, 0), from where they bring (2, 0) and (0, 4).
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedrevive.algorithms import build_algorithm
from fedrevive.core.messages import ClientUpdate, ModelSnapshot
from fedrevive.settings.peers import (
    AsyncFedEdSettings,
    Ca2flSettings,
    FadasSettings,
    FedFaSettings,
    PortSettings,
)


def models(steps) -> np.ndarray:
    return np.array([state.model.tolist() for state, _ in steps])


def test_ca2fl_calibrates_with_the_cache_of_the_version_before(trace) -> None:
    # N = 2, M = 1. v = 0 + (2, 0), h = (1, 0); v = (1, 0) + (0, 4), h = (1, 2);
    # client 0 again, from (3, 4): delta (0.5, -2), v = (1, 2) + (0.5, -2) - (2, 0), h = ((0.5, -2) + (0, 4))/2.
    steps = trace(Ca2flSettings(), [(0, 0), (1, 0), (0, 2)], concurrency=2, clients=2, lr=1.0)
    np.testing.assert_allclose(models(steps), [[2, 0], [3, 4], [2.5, 4]], atol=1e-6)
    memory = steps[-1][0].memory
    assert memory.mean.tolist() == [0.25, 1.0]
    assert {client: delta.tolist() for client, delta in memory.cached.items()} == {0: [0.5, -2], 1: [0, 4]}


def test_ca2fl_takes_a_client_that_is_twice_in_a_buffer_twice(trace) -> None:
    # M = 2, N = 4. First buffer: client 0 from (0, 0) twice: v = ((2, 0) + (2, 0))/2, h_0 = (2, 0), h = (0.5, 0).
    # Second, both from (2, 0): (1, 0) and (1, 0), minus the old h_0 each: v = (0.5, 0) - (1, 0); h = (0.25, 0).
    steps = trace(
        Ca2flSettings(), [(0, 0), (0, 0), (0, 2), (0, 2)], concurrency=4, clients=4, lr=1.0, updates=2
    )
    np.testing.assert_allclose(models(steps), [[0, 0], [2, 0], [2, 0], [1.5, 0]], atol=1e-6)
    assert [state.memory.mean.tolist() for state, _ in steps] == [[0, 0], [0.5, 0], [0.5, 0], [0.25, 0]]
    assert steps[-1][0].memory.cached[0].tolist() == [1.0, 0.0]


def test_fadas_first_steps(trace) -> None:
    # b1 = b2 = 1/2, no correction: m = (1, 0), v = (2, 0): step (1/sqrt 2, 0).
    # Then delta (0, 4): m = (0.5, 2), v = (1, 8), but v_max = (2, 8).
    settings = FadasSettings(
        first_decay=0.5, second_decay=0.5, bias_correction=False, delay_adaptation="none", epsilon=1e-12
    )
    steps = trace(settings, [(0, 0), (1, 0)], concurrency=2, lr=1.0)
    root = math.sqrt(0.5)
    np.testing.assert_allclose(models(steps), [[root, 0], [root + 0.5 * root, root]], atol=1e-6)


def test_fadas_with_correction_starts_with_unit_steps(trace) -> None:
    # m/(1 - b1) = delta and sqrt(v_max/(1 - b2)) = |delta|: a coordinate that moves, moves by eta.
    steps = trace(FadasSettings(epsilon=1e-12), [(0, 0)], concurrency=2, lr=0.25)
    np.testing.assert_allclose(models(steps), [[0.25, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ("adaptation", "lr", "threshold", "factors"),
    [
        ("none", 0.5, 0, [1, 1, 1]),
        ("divided", 0.5, 0, [1, 1, 1 / 2]),
        ("divided", 0.5, 2, [1, 1, 1]),
        ("capped", 0.5, 0, [1, 1, 1]),  # 1/tau_max = 0.5 = eta
        ("capped", 2.0, 0, [1, 1 / 2, 1 / 4]),
        ("capped", 2.0, 1, [1, 1, 1 / 4]),
    ],
)
def test_fadas_shrinks_its_step_with_the_largest_staleness(trace, adaptation, lr, threshold, factors) -> None:
    # b1 = b2 = 0: every step is sign(delta) until v_max outgrows v; client 0's delta from (0, 0) is always (2, 0).
    settings = FadasSettings(
        first_decay=0, second_decay=0, delay_adaptation=adaptation, delay_threshold=threshold, epsilon=1e-12
    )
    steps = trace(settings, [(0, 0), (0, 0), (0, 0)], concurrency=3, lr=lr)  # tau 0, 1, 2
    moved = np.diff(models(steps)[:, 0], prepend=0.0) / lr
    np.testing.assert_allclose(moved, factors, rtol=1e-5)


def test_fadas_tau_max_is_over_one_buffer(trace) -> None:
    arrivals = [(0, 0), (0, 0), (0, 0), (0, 0), (0, 4), (0, 4)]  # M = 2: tau 0, 0 | 1, 1 | 0, 0
    steps = trace(FadasSettings(), arrivals, concurrency=6, updates=2)
    assert [state.memory.largest_staleness for state, _ in steps] == [0, 0, 1, 0, 0, 0]


def test_asyncfeded_measures_staleness_in_the_clients_own_steps(trace) -> None:
    # eps = 1: fresh, gamma = 0: weight 1. Then the server is (2, 0) off client 1's base, whose delta is 4 long:
    # gamma = 1/2, weight 2/3. Then client 0 from (0, 0): |(2, 8/3)| = 10/3 over 2 is 5/3, weight 3/8.
    steps = trace(AsyncFedEdSettings(), [(0, 0), (1, 0), (0, 0)], concurrency=3, lr=1.0)
    np.testing.assert_allclose(models(steps), [[2, 0], [2, 8 / 3], [2.75, 8 / 3]], atol=1e-6)
    assert [info.staleness_weight for _, info in steps] == pytest.approx([1, 2 / 3, 3 / 8])


def test_asyncfeded_adapts_the_steps_of_later_jobs(trace) -> None:
    # client.local_steps = 25, gammas 0, 1/2, 5/3: 25 + floor(3.5); 25 + floor(1.75); 28 + floor(-7/3).
    settings = AsyncFedEdSettings(local_steps_gain=3.5, target_distance=1.0)
    steps = trace(settings, [(0, 0), (1, 0), (0, 0)], concurrency=3, lr=1.0)
    assert [state.memory.local_steps for state, _ in steps] == [{0: 28}, {0: 28, 1: 26}, {0: 25, 1: 26}]


@pytest.mark.parametrize(("target", "last"), [(100.0, 50), (0.0, 13)])
def test_asyncfeded_keeps_steps_within_their_range(trace, target: float, last: int) -> None:
    settings = AsyncFedEdSettings(local_steps_gain=10.0, target_distance=target, local_steps_range=2.0)
    steps = trace(settings, [(1, 0)] + 4 * [(0, 0)], concurrency=5, lr=1.0)
    assert steps[-1][0].memory.local_steps[0] == last


def test_asyncfeded_survives_an_upload_that_did_not_move(config_of, quadratic) -> None:
    algorithm = build_algorithm(config_of(AsyncFedEdSettings(local_steps_gain=1.0)), quadratic())
    state = algorithm.init()
    base = ModelSnapshot(0, state.model.numpy())
    state, info = algorithm.apply(state, base, ClientUpdate(0, 0, base.model, 1, 0.0))
    assert (state.model.tolist(), state.version, info.staleness_weight) == ([0, 0], 1, 0.0)
    assert algorithm.local_steps(state) == {}


def test_fedfa_averages_the_last_k_models(trace) -> None:
    # k = 2. Nothing moves before two models are there: (2, 0), (0, 4) -> (1, 2). Client 0 from (0, 0) again is (2, 0),
    # so the window is (0, 4), (2, 0). Client 1 from there is (0.5, 5).
    steps = trace(FedFaSettings(window=2), [(0, 0), (1, 0), (0, 0), (1, 3)], concurrency=3, lr=1.0)
    np.testing.assert_allclose(models(steps), [[0, 0], [1, 2], [1, 2], [1.25, 2.5]], atol=1e-6)
    assert [info.staleness for _, info in steps] == [0, 1, 2, 0]
    assert [info.new_version for _, info in steps] == [1, 2, 3, 4]


def test_port_weighs_by_staleness_and_by_agreement_with_the_last_step(trace) -> None:
    # M = 1 would normalise every weight away, so M = 2 with b = 2, w_s = 1, w_t = 3.
    # Buffer 1 (tau 0, 0): equal weights 1 + 3 = 4: x = ((2, 0) + (0, 4))/2 = (1, 2), movement (1, 2).
    # Buffer 2 (tau 0, 0) from (1, 2): (1.5, -1) and (-0.5, 3): x = (1.5, 3), movement (0.5, 1).
    # Buffer 3 (tau 2, 2) from (0, 0): cos of (2, 0) and (0, 4) with (0.5, 1): 1/sqrt 5 and 2/sqrt 5; 3*2/(2 + 2) = 1.5.
    arrivals = [(0, 0), (1, 0), (0, 2), (1, 2), (0, 0), (1, 0)]
    settings = PortSettings(staleness_bound=2.0)
    steps = trace(settings, arrivals, concurrency=6, lr=1.0, updates=2)
    first, second = ((1 / math.sqrt(5) + 1) / 2 + 1.5, (2 / math.sqrt(5) + 1) / 2 + 1.5)
    last = np.array([1.5, 3]) + (first * np.array([2, 0]) + second * np.array([0, 4])) / (first + second)
    np.testing.assert_allclose(models(steps)[1::2], [[1, 2], [1.5, 3], last], atol=1e-6)
    assert [info.staleness_weight for _, info in steps] == pytest.approx([4, 4, 4, 4, first, second])
    np.testing.assert_allclose(steps[3][0].memory.movement.numpy(), [0.5, 1], atol=1e-6)

"""What the peers remember: pure, survives a snapshot, and buffers of feature statistics that stay valid."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from fedrevive.algorithms import STATE_TYPES, build_algorithm
from fedrevive.core.messages import ModelSnapshot
from fedrevive.core.state_tree import decode, encode
from fedrevive.settings.peers import (
    AsyncFedEdSettings,
    Ca2flSettings,
    FadasSettings,
    FedFaSettings,
    PortSettings,
)

CASES = {
    "ca2fl": (Ca2flSettings(), 0.3, 4),
    "fadas": (FadasSettings(), 0.05, 3),
    "asyncfeded": (AsyncFedEdSettings(), 0.8, 1),
    "asyncfeded-adaptive": (AsyncFedEdSettings(local_steps_gain=2.0), 0.8, 1),
    "fedfa": (FedFaSettings(window=4), 1.0, 1),
    "port": (PortSettings(), 0.9, 4),
}


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("case", CASES)
def test_apply_is_pure_and_survives_a_snapshot(encoded, case, norm, config_of, context_of, update_of) -> None:
    settings, lr, size = CASES[case]
    context = context_of(norm)
    config = config_of(settings, lr=lr, updates=size, clients=7)
    algorithm = build_algorithm(config, context)
    state = algorithm.init()
    start = ModelSnapshot(0, context.initial_model.numpy())
    for job in range(11):
        update = update_of(start, context, job % 4, job)
        before = encoded(state)
        after, info = algorithm.apply(state, start, update)
        structure, arrays = encode(state)
        restored = decode(json.loads(json.dumps(structure)), arrays, STATE_TYPES, context.device)
        for same in (state, copy.deepcopy(state), restored):
            again, told = build_algorithm(config, context_of(norm)).apply(same, start, update)
            assert (encoded(again), told) == (encoded(after), info)
        assert encoded(state) == before
        state = after


@pytest.mark.parametrize("case", CASES)
def test_averaged_variances_stay_non_negative(case, config_of, context_of, update_of) -> None:
    settings, lr, size = CASES[case]
    context = context_of("batch")
    count = context.spec.parameter_count
    algorithm = build_algorithm(config_of(settings, lr=lr, updates=size, clients=7), context)
    state = algorithm.init()
    start = ModelSnapshot(0, context.initial_model.numpy())
    for job in range(12):
        state, _ = algorithm.apply(state, start, update_of(start, context, job % 4, job))
        assert bool((state.model[count:] >= 0).all())  # the clients' statistics here are never negative
    assert not np.array_equal(state.model[count:], context.initial_model[count:])


def test_fedfa_averages_buffers_over_its_window(config_of, context_of, update_of) -> None:
    context = context_of("batch")
    count = context.spec.parameter_count
    algorithm = build_algorithm(config_of(FedFaSettings(window=3), lr=1.0), context)
    state = algorithm.init()
    start = ModelSnapshot(0, context.initial_model.numpy())
    updates = [update_of(start, context, job, job) for job in range(5)]
    for update in updates:
        state, _ = algorithm.apply(state, start, update)
    expected = np.mean([update.model[count:] for update in updates[2:]], axis=0)
    np.testing.assert_allclose(state.model[count:].numpy(), expected, rtol=1e-6)


def test_fadas_takes_the_clients_mean_buffers(config_of, context_of, update_of) -> None:
    context = context_of("batch")
    count = context.spec.parameter_count
    algorithm = build_algorithm(config_of(FadasSettings(), lr=1e-3, updates=2), context)
    state = algorithm.init()
    start = ModelSnapshot(0, context.initial_model.numpy())
    updates = [update_of(start, context, job, job) for job in range(2)]
    for update in updates:
        state, _ = algorithm.apply(state, start, update)
    expected = np.mean([update.model[count:] for update in updates], axis=0)
    np.testing.assert_allclose(state.model[count:].numpy(), expected, rtol=1e-6)


def test_ca2fl_keeps_only_clients_that_uploaded(config_of, context_of, update_of) -> None:
    context = context_of()
    algorithm = build_algorithm(config_of(Ca2flSettings(), clients=100, updates=2), context)
    state = algorithm.init()
    start = ModelSnapshot(0, context.initial_model.numpy())
    for job, client in enumerate([8, 3, 8, 8]):
        state, _ = algorithm.apply(state, start, update_of(start, context, client, job))
    assert sorted(state.memory.cached) == [3, 8]
    assert state.memory.arrived == {}
    assert {tensor.dtype for tensor in state.memory.cached.values()} == {context.initial_model.dtype}

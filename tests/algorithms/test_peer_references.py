"""Every rule against a slow, obvious float64 form of it, on a real network with stale bases and repeating clients.

The references keep every upload they ever saw and recompute from the start what they need; nothing is incremental.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest

from fedrevive.algorithms import build_algorithm
from fedrevive.core.messages import ModelSnapshot
from fedrevive.settings.algorithm import FedAsyncSettings, FedAvgSettings, FedBuffSettings
from fedrevive.settings.peers import (
    AsyncFedEdSettings,
    Ca2flSettings,
    FadasSettings,
    FedFaSettings,
    PortSettings,
)
from fedrevive.settings.schedules import PolynomialWeight

CLIENTS, CONCURRENCY, ARRIVALS = 7, 5, 30


class Seen(NamedTuple):
    """One upload in float64."""

    client: int
    base_version: int
    base: np.ndarray
    model: np.ndarray

    @property
    def delta(self):
        return self.model - self.base


def play(config_of, context_of, update_of, settings, *, norm="none", **server):
    """Uploads with stale bases, and the states they led to."""
    context = context_of(norm)
    config = config_of(settings, concurrency=CONCURRENCY, clients=CLIENTS, **server)
    algorithm = build_algorithm(config, context)
    random, count = np.random.default_rng(5), context.spec.parameter_count
    states = [algorithm.init()]
    slots = [ModelSnapshot(0, states[0].model.numpy().copy())] * CONCURRENCY
    seen = []
    for job in range(ARRIVALS):
        slot = int(random.integers(CONCURRENCY))
        base, client = slots[slot], int(random.integers(CLIENTS))
        update = update_of(base, context, client, job)
        state, info = algorithm.apply(states[-1], base, update)
        assert info.staleness == states[-1].version - base.version
        states.append(state)
        slots[slot] = ModelSnapshot(state.version, state.model.numpy().copy())
        vectors = (base.model[:count].astype(np.float64), update.model[:count].astype(np.float64))
        seen.append(Seen(client, base.version, *vectors))
    return seen, [state.model[:count].numpy() for state in states]


def buffers(seen, size):
    """Complete buffers of `size` uploads: (version they make minus 1, uploads)."""
    return [(n, seen[n * size : (n + 1) * size]) for n in range(len(seen) // size)]


def norm(vector):
    return math.sqrt(sum(value * value for value in vector.tolist()))


def fedavg(seen, x, lr, size):
    for _, uploads in buffers(seen, size):
        x = x + lr * sum(u.delta for u in uploads) / size
        yield x


def fedbuff(seen, x, lr, size):
    for version, uploads in buffers(seen, size):
        x = x + lr * sum((1 + version - u.base_version) ** -0.5 * u.delta for u in uploads) / size
        yield x


def fedasync(seen, x, lr, size):
    for version, (upload,) in buffers(seen, 1):
        alpha = lr * (1 + version - upload.base_version) ** -0.5
        x = (1 - alpha) * x + alpha * upload.model
        yield x


def ca2fl(seen, x, lr, size):
    for version, uploads in buffers(seen, size):
        before = seen[: version * size]
        last = {u.client: u.delta for u in before}  # later uploads overwrite
        zero = np.zeros_like(x)
        h = sum((last.get(client, zero) for client in range(CLIENTS)), zero) / CLIENTS
        v = h + sum(u.delta - last.get(u.client, zero) for u in uploads) / size
        x = x + lr * v
        yield x


def fadas(seen, x, lr, size, capped=False, corrected=True):
    means = []
    for version, uploads in buffers(seen, size):
        means.append(sum(u.delta for u in uploads) / size)
        m = sum(0.1 * 0.9 ** (version - k) * mean for k, mean in enumerate(means))
        second = [
            sum(0.01 * 0.99 ** (n - k) * means[k] ** 2 for k in range(n + 1)) for n in range(version + 1)
        ]
        v = np.max(second, axis=0)
        if corrected:
            m, v = m / (1 - 0.9 ** (version + 1)), v / (1 - 0.99 ** (version + 1))
        worst = max(version - u.base_version for u in uploads)
        eta = lr
        if worst > 1:
            eta = min(lr, 1 / worst) if capped else lr / worst
        x = x + eta * m / (np.sqrt(v) + 1e-8)
        yield x


def fadas_paper(seen, x, lr, size):
    return fadas(seen, x, lr, size, capped=True, corrected=False)


def asyncfeded(seen, x, lr, size):
    for upload in seen:
        gamma = norm(x - upload.base) / norm(upload.delta)
        x = x + lr / (gamma + 1) * upload.delta
        yield x


def fedfa(seen, x, lr, size):
    for n in range(1, len(seen) + 1):
        if n >= 4:
            x = sum(u.model for u in seen[n - 4 : n]) / 4
        yield x


def port(seen, x, lr, size):
    previous = None
    for version, uploads in buffers(seen, size):
        weights = []
        for u in uploads:
            staleness, cosine = version - u.base_version, 1.0
            if staleness > 1 and previous is not None:
                movement = x - previous
                cosine = float(u.delta @ movement) / (norm(u.delta) * norm(movement))
            weights.append((cosine + 1) / 2 + 3 * 10 / (staleness + 10))
        previous, step = x, sum(w * u.delta for w, u in zip(weights, uploads, strict=True)) / sum(weights)
        x = x + lr * step
        yield x


CASES = {
    "fedavg": (FedAvgSettings(), fedavg, 1.0, CONCURRENCY),
    "fedbuff": (FedBuffSettings(staleness_weight=PolynomialWeight()), fedbuff, 0.7, 3),
    "fedasync": (FedAsyncSettings(staleness_weight=PolynomialWeight()), fedasync, 0.6, 1),
    "ca2fl": (Ca2flSettings(), ca2fl, 0.3, 4),
    "ca2fl-1": (Ca2flSettings(), ca2fl, 0.3, 1),
    "fadas": (FadasSettings(), fadas, 0.05, 3),
    "fadas-paper": (FadasSettings(bias_correction=False, delay_adaptation="capped"), fadas_paper, 0.4, 1),
    "asyncfeded": (AsyncFedEdSettings(), asyncfeded, 0.8, 1),
    "fedfa": (FedFaSettings(window=4), fedfa, 1.0, 1),
    "port": (PortSettings(), port, 0.9, 4),
    "port-1": (PortSettings(), port, 0.9, 1),
}


@pytest.mark.parametrize("case", CASES)
def test_fast_rule_equals_the_slow_one(case: str, config_of, context_of, update_of) -> None:
    settings, reference, lr, size = CASES[case]
    seen, fast = play(config_of, context_of, update_of, settings, lr=lr, updates=size)
    slow = list(reference(seen, fast[0].astype(np.float64), lr, size))
    versions = fast[size::size]
    assert len(slow) == len(versions) == ARRIVALS // size
    for expected, model in zip(slow, versions, strict=True):
        np.testing.assert_allclose(model, expected, rtol=0, atol=1e-5)
    assert np.abs(fast[-1] - fast[0]).max() > 1e-3  # something was compared

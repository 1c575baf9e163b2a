"""Delay models: from settings to virtual nanoseconds per (client, n-th job).

Sources: the two published schedules are algorithm.md §1.9; the other families are the menu of §4.1 (ours).
Per-job noise and static client speed are separate streams: the first is keyed by (client, n-th job), the second by
the client alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedrevive.core.seeds import Purpose, normal, philox, uniform
from fedrevive.settings.delays import MeanDelays, SampledDelays

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

NANOSECONDS = 1_000_000_000
LONGEST_UNITS = 10**9
"""A duration beyond this many time units is cut there, so that clocks stay inside 64 bits."""


class Durations(NamedTuple):
    """Virtual nanoseconds after dispatch, each [jobs, clients]."""

    trained: Int64
    """Until training ends: the client is idle again (its upload still travels; published example)."""
    arrives: Int64
    """Until the server accepts the upload."""


def sample_durations(settings: SampledDelays, seed: int, clients: int, jobs: range) -> Durations:
    """Durations of jobs number `jobs` of every client.

    Args:
        settings: the delay model, any but a trace (`simulation.trace_delays`).
        seed: the experiment's seed.
        clients: N.
        jobs: which of each client's jobs (0 = its first).
    """
    client = np.arange(clients)[None, :]
    nth = np.arange(jobs.start, jobs.stop)[:, None]
    return durations(*_phases(settings, seed, client, nth))


def durations(download: Float64 | float, training: Float64, upload: Float64) -> Durations:
    """From the time units that each phase takes."""
    trained = np.minimum(download + training, LONGEST_UNITS)
    arrives = np.minimum(trained + upload, LONGEST_UNITS)
    return Durations(_nanoseconds(trained), _nanoseconds(arrives))


def _nanoseconds(units: Float64) -> Int64:
    return np.rint(units * NANOSECONDS).astype(np.int64)


def _phases(
    settings: SampledDelays, seed: int, client: Int64, nth: Int64
) -> tuple[Float64 | float, Float64, Float64]:
    """Download, training and upload in time units; training is [jobs, clients]."""
    noise = philox(seed, Purpose.TRAINING_TIME, client, nth)  # [jobs, clients, 4]
    static = uniform(philox(seed, Purpose.CLIENT_SPEED, client, 0))  # [1, clients, 4]
    if settings.kind == "fedrevive_default":
        mean = np.array([1.0, 1.3, 1.6])[np.searchsorted([0.25, 0.75], static[..., 0])]
        middle = np.where(static[..., 1] < 0.5, 0.15, 0.25)
        return 0.1, mean * _exponential(noise), middle + _spread(seed, client, nth, 0.02)
    if settings.kind == "fedrevive_shifted":
        middle = np.where(static[..., 1] < 0.5, 0.05, 0.10)
        return 0.02, 0.1 * _exponential(noise), middle + _spread(seed, client, nth, 0.01)
    training = _training(settings)(noise, static)
    if settings.client_sigma:
        z = normal(philox(seed, Purpose.CLIENT_SPEED, client, 1)[..., :2])
        training = training * np.exp(settings.client_sigma * z - settings.client_sigma**2 / 2)
    return settings.download, training, np.broadcast_to(np.float64(settings.upload), training.shape)


def _spread(seed: int, client: Int64, nth: Int64, half_width: float) -> Float64:
    """U(-half_width, half_width) per upload."""
    u = uniform(philox(seed, Purpose.UPLOAD, client, nth)[..., 0])
    return half_width * (2 * u - 1)


def _exponential(words: NDArray[np.uint64]) -> Float64:
    """Exp(1) from the first word."""
    return -np.log(uniform(words[..., 0]))


def _training(settings: SampledDelays) -> Callable[[NDArray[np.uint64], Float64], Float64]:
    """The family's training time as a function of (noise words [jobs, clients, 4], static uniforms [1, clients, 4])."""
    if settings.kind == "uniform":
        low, width = settings.low, settings.high - settings.low
        return lambda words, static: low + width * uniform(words[..., 0])
    assert isinstance(settings, MeanDelays)
    mean = settings.mean
    match settings.kind:
        case "constant":
            return lambda words, static: np.full(words.shape[:-1], mean)
        case "half_normal":
            sd = mean * np.sqrt(np.pi / 2)
            return lambda words, static: sd * np.abs(normal(words[..., :2]))
        case "exponential":
            return lambda words, static: mean * _exponential(words)
        case "shifted_exponential":
            shift = settings.shift
            return lambda words, static: mean * (shift + (1 - shift) * _exponential(words))
        case "lognormal":
            sigma = settings.sigma
            return lambda words, static: mean * np.exp(sigma * normal(words[..., :2]) - sigma**2 / 2)
        case "pareto":
            shape, cap = settings.shape, settings.cap
            scale = mean * (shape - 1) / shape
            return lambda words, static: np.minimum(
                scale * uniform(words[..., 0]) ** (-1 / shape), cap * mean
            )
        case "two_speed":
            share, factor = settings.slow_share, settings.slow_factor
            return lambda words, static: np.where(
                np.broadcast_to(static[..., 2], words.shape[:-1]) < share, mean * factor, mean
            )
    raise AssertionError(settings)

"""Which job suffers which simulated fault: a pure function of configuration and seed, from streams of its own."""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray

from fedrevive.core.faults import Fault
from fedrevive.core.seeds import Purpose, philox, uniform
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.faults import FaultRate, FaultSettings

ORDER = (
    Fault.DROPOUT,
    Fault.CRASH,
    Fault.DUPLICATE,
    Fault.NAN,
    Fault.EXPLOSION,
    Fault.SIGN_FLIP,
    Fault.LABEL_FLIP,
)
"""A job suffers the first that hits it."""
_BLOCK = 8192
_WORDS = 4


def sampled_faults(settings: FaultSettings, seed: int, clients: int, jobs: range) -> NDArray[np.uint8]:
    """Faults of jobs number `jobs` of every client, [jobs, clients], values of `Fault`.

    Every kind has its own random words, so that one more kind, or another rate, leaves the others where they are.
    """
    client, nth = np.arange(clients)[None, :], np.arange(jobs.start, jobs.stop)[:, None]
    found = np.zeros((len(jobs), clients), np.uint8)
    for fault in ORDER:
        rate: FaultRate | None = getattr(settings, fault.kind)
        if rate is None:
            continue
        hit = np.broadcast_to(faulty_clients(rate.clients, seed, clients, fault), found.shape)
        if rate.jobs:
            block, word = divmod(fault, _WORDS)
            words = philox(seed, Purpose.FAULT, client, nth, block)[..., word]
            hit = hit | (uniform(words) < rate.jobs)
        found[hit & (found == Fault.NONE)] = fault
    return found


def faulty_clients(share: float, seed: int, clients: int, fault: Fault) -> NDArray[np.bool_]:
    """Who always suffers `fault`, [clients]; a larger share holds the smaller one's clients."""
    chosen = np.zeros(clients, np.bool_)
    if share:
        words = philox(seed, Purpose.FAULTY_CLIENT, np.arange(clients), fault)[:, 0]
        chosen[np.argsort(words, kind="stable")[: max(1, round(share * clients))]] = True
    return chosen


def can_fail(settings: FaultSettings) -> bool:
    """Whether any job can suffer a fault of its client."""
    rates: list[FaultRate | None] = [getattr(settings, fault.kind) for fault in ORDER]
    return any(rate is not None and (rate.jobs or rate.clients) for rate in rates)


class FaultTable:
    """Faults of every client's n-th job, sampled for all clients at once when the first one gets there."""

    def __init__(self, config: ExperimentConfig) -> None:
        self._settings, self._seed, self._clients = config.faults, config.seed, config.task.clients
        self._jobs_per_block = -(-_BLOCK // self._clients)
        self._none = not can_fail(config.faults)
        self._faults = array("B")

    def of(self, client: int, nth: int) -> Fault:
        """What client `client` suffers in its job number `nth` (0 = its first)."""
        if self._none:
            return Fault.NONE
        index = nth * self._clients + client
        while index >= len(self._faults):
            start = len(self._faults) // self._clients
            jobs = range(start, start + self._jobs_per_block)
            self._faults.frombytes(sampled_faults(self._settings, self._seed, self._clients, jobs).tobytes())
        return Fault(self._faults[index])


def within_timeout(timeout: int, trained: int, arrives: int, fault: Fault) -> tuple[int, int, Fault]:
    """Durations and fault of a job that the server gives up after `timeout` nanoseconds; its client stops then."""
    if fault is Fault.DROPOUT:
        return timeout, timeout, fault
    if fault is Fault.CRASH:
        return min(trained, timeout), timeout, fault
    if arrives > timeout:
        return min(trained, timeout), timeout, Fault.LATE
    return trained, arrives, fault


def described(fault: Fault, settings: FaultSettings) -> str:
    """One line for the events table."""
    match fault:
        case Fault.DROPOUT:
            return f"the client never answered; given up after {settings.timeout:g} time units"
        case Fault.CRASH:
            return f"the upload was lost after training; given up after {settings.timeout:g} time units"
        case Fault.LATE:
            return f"no upload within {settings.timeout:g} time units; given up"
        case Fault.DUPLICATE:
            return "a second copy of the upload arrived; ignored"
        case Fault.NAN:
            return "the client uploaded NaN"
        case Fault.EXPLOSION:
            assert settings.explosion is not None
            return f"the client delta was multiplied by {settings.explosion.factor:g}"
        case Fault.SIGN_FLIP:
            assert settings.sign_flip is not None
            return f"the client delta was multiplied by -{settings.sign_flip.factor:g}"
        case Fault.LABEL_FLIP:
            return "the client trained on flipped labels"
    raise AssertionError(fault)

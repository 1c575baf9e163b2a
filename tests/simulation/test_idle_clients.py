"""Who may be drawn: a client is idle from the end of its training, while its upload still travels.

algorithm.md §5.15: two of a client's uploads may be in flight at once.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from fedrevive.settings import ExperimentConfig
from fedrevive.simulation.delays import NANOSECONDS, sample_durations
from fedrevive.simulation.timeline import Timeline

UPLOADS = {
    "constant": {"kind": "constant", "mean": 1.0, "upload": 10.0},
    "uniform": {"kind": "uniform", "low": 0.5, "high": 1.5, "download": 0.25, "upload": 2.0},
    "exponential": {"kind": "exponential", "mean": 1.0, "upload": 1.0},
    "no upload": {"kind": "exponential", "mean": 1.0},
}


def config(delays: dict, clients: int, concurrency: int, seed: int = 0) -> ExperimentConfig:
    return ExperimentConfig.model_validate(
        {
            "seed": seed,
            "task": {"name": "digits", "clients": clients},
            "server": {"concurrency": concurrency},
            "algorithm": {"name": "fedasync"},  # any number of clients will do
            "delays": delays,
            "stop": {"arrivals": 1},
        }
    )


def test_by_hand_two_clients_with_a_long_upload() -> None:
    """Both have trained by 1.5 and arrive in 10.5 .. 11.5, one after the other. At the first acceptance both have long
    been idle, so either may be drawn; when the later one is, two of its uploads are in flight.
    """
    drawn: Counter[str] = Counter()
    for seed in range(60):
        delays = {"kind": "uniform", "low": 0.5, "high": 1.5, "upload": 10.0}
        timeline = Timeline(config(delays, 2, 2, seed), "continuous")
        step = timeline.advance()
        (later,) = (task for task in timeline.in_flight if task.job != step.dispatched[0].job)
        assert timeline.now == step.task.arrives_at < later.arrives_at
        (task,) = step.dispatched
        if task.client_id == later.client_id:
            assert [(t.client_id, t.nth) for t in timeline.in_flight] == [
                (later.client_id, n) for n in (0, 1)
            ]
        drawn["later" if task.client_id == later.client_id else "earlier"] += 1
        if (
            later.arrives_at < task.dispatched_at + NANOSECONDS // 2
        ):  # the client just drawn is still training
            (other,) = timeline.advance().dispatched
            assert other.client_id == 1 - task.client_id
            drawn["busy"] += 1
    assert drawn["later"] + drawn["earlier"] == 60
    assert min(drawn.values()) > 15
    assert len(drawn) == 3


def test_a_client_that_finishes_at_the_very_moment_of_an_acceptance_is_idle() -> None:
    """Without upload both arrive at 1; at the first acceptance the other's training has just ended as well."""
    drawn = set()
    for seed in range(20):
        timeline = Timeline(config({"kind": "constant", "mean": 1.0}, 2, 2, seed), "continuous")
        drawn |= {task.client_id for task in timeline.advance().dispatched}
    assert drawn == {0, 1}


@pytest.mark.parametrize("dispatch", ["continuous", "cohort"])
@pytest.mark.parametrize("delays", UPLOADS.values(), ids=UPLOADS)
@pytest.mark.parametrize(("clients", "concurrency"), [(3, 3), (8, 6), (40, 5)])
def test_only_idle_clients_are_drawn_and_all_of_them_alike(
    clients: int, concurrency: int, delays: dict, dispatch: str
) -> None:
    """Against the slow form: for every dispatch the set of clients whose last training has ended."""
    experiment = config(delays, clients, concurrency)
    durations = sample_durations(experiment.delays, experiment.seed, clients, range(1200)).trained
    timeline = Timeline(experiment, dispatch)
    busy_until = [0] * clients
    landing: dict[int, int] = {}  # job -> client, uploads in flight
    drawn_while_uploading, expected, variance, chances = 0, 0.0, 0.0, 0

    def check(tasks) -> None:
        nonlocal drawn_while_uploading, expected, variance, chances
        for task in tasks:
            idle = [client for client in range(clients) if busy_until[client] <= task.dispatched_at]
            assert task.client_id in idle, "a client still training was drawn"
            uploading = set(landing.values()) & set(idle)
            share = len(uploading) / len(idle)
            expected += share
            variance += share * (1 - share)
            chances += bool(uploading)
            drawn_while_uploading += task.client_id in uploading
            busy_until[task.client_id] = task.dispatched_at + int(durations[task.nth, task.client_id])
            landing[task.job] = task.client_id

    check(timeline.in_flight)
    for _ in range(1000):
        step = timeline.advance()
        del landing[step.task.job]
        check(step.dispatched)
    if dispatch == "continuous" and delays.get("upload") and clients < 40:
        assert chances > 200
    if chances:
        assert abs(drawn_while_uploading - expected) <= 4 * np.sqrt(variance) + 1

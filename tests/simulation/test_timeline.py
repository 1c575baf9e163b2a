"""The clock: published arrival counts, staleness law, total order, purity."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrevive.settings import ExperimentConfig
from fedrevive.settings.delays import SampledDelays
from fedrevive.settings.faults import FaultSettings
from fedrevive.settings.loading import load
from fedrevive.simulation import timeline as timeline_module
from fedrevive.simulation.delays import NANOSECONDS
from fedrevive.simulation.timeline import Arrival, Timeline

KINDS = [kind.model_fields["kind"].default for kind in get_args(SampledDelays)]


def config(kind="fedrevive_default", clients=1000, concurrency=100, seed=0, **delays):
    return ExperimentConfig.model_validate(
        {
            "seed": seed,
            "task": {"name": "digits", "clients": clients},
            "server": {"concurrency": concurrency},
            "algorithm": {"name": "fedasync"},  # any number of clients will do
            "delays": {"kind": kind, **delays},
            "stop": {"arrivals": 1},
        }
    )


def arrivals_until(units, experiment, dispatch="continuous"):
    timeline = Timeline(experiment, dispatch)
    while timeline.next_event_at() <= units * NANOSECONDS:
        timeline.advance()
    return timeline.arrivals


def test_published_default_counts():
    counts = [arrivals_until(200, config(seed=seed)) for seed in range(10)]
    assert np.mean(counts) == pytest.approx(12_500, rel=0.01)
    assert all(abs(count - 12_677) <= 0.04 * 12_677 for count in counts)


def test_published_shifted_count():
    assert arrivals_until(100, config("fedrevive_shifted")) == pytest.approx(51_325, rel=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_fedavg_rounds(seed):
    rounds = arrivals_until(200, config(seed=seed), "cohort") / 100
    assert 25 <= rounds <= 30


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("updates_per_version", [1, 3])
def test_mean_staleness_is_k_minus_one_over_b(kind, updates_per_version):
    timeline = Timeline(config(kind), "continuous")
    steps = [timeline.advance() for _ in range(100 * 100)]
    b = updates_per_version
    staleness = [step.sequence // b - step.task.base_arrivals // b for step in steps]
    assert np.mean(staleness) == pytest.approx(99 / b, rel=0.02)


def test_concurrency_one_is_sequential():
    timeline = Timeline(config(clients=5, concurrency=1), "continuous")
    for _ in range(50):
        step = timeline.advance()
        assert step.task.base_arrivals == step.sequence


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 12),
    st.integers(0, 30),
    st.integers(0, 2**32),
    st.sampled_from(["continuous", "cohort"]),
)
def test_invariants(kind, concurrency, spare, seed, dispatch):
    """Conservation, monotone clock, unique jobs, per-client counters, no client training twice at once."""
    experiment = config(kind, clients=concurrency + spare, concurrency=concurrency, seed=seed)
    timeline, twin = Timeline(experiment, dispatch), Timeline(experiment, dispatch)
    assert len(timeline.in_flight) == concurrency
    clock, jobs = 0, {task.job for task in timeline.in_flight}
    nth = {task.client_id: 0 for task in timeline.in_flight}
    assert len(nth) == concurrency
    for sequence in range(60):
        due = timeline.next_event_at()
        step = timeline.advance()
        assert step == twin.advance()
        assert (step.sequence, step.task.arrives_at, timeline.now) == (sequence, due, due)
        assert due >= clock
        clock = due
        for task in step.dispatched:
            assert task.job not in jobs
            jobs.add(task.job)
            assert task.nth == nth.get(task.client_id, -1) + 1
            nth[task.client_id] = task.nth
            assert task.base_arrivals == timeline.arrivals == sequence + 1
        assert len(jobs) == timeline.arrivals + len(timeline.in_flight)
        if dispatch == "continuous":
            assert len(timeline.in_flight) == concurrency


def test_ties_are_broken_by_client_then_job():
    timeline = Timeline(config("constant", clients=8, concurrency=8), "continuous")
    first = [timeline.advance().task for _ in range(8)]
    assert {task.arrives_at for task in first} == {NANOSECONDS}
    assert [task.client_id for task in first] == sorted(task.client_id for task in first)


def test_zero_delays_do_not_stop_the_clock_from_being_total():
    timeline = Timeline(config("uniform", clients=4, concurrency=2, low=0.0, high=1e-9), "continuous")
    order = [timeline.advance().task.job for _ in range(100)]
    assert len(set(order)) == 100


def test_algorithms_of_one_seed_meet_the_same_arrivals():
    fedbuff = config().model_copy(update={"algorithm": {"name": "ignored"}})
    one, other = Timeline(config(), "continuous"), Timeline(fedbuff, "continuous")
    assert [one.advance().task for _ in range(300)] == [other.advance().task for _ in range(300)]


def test_a_whole_generation_lost_at_once_does_not_end_a_large_run():
    """All that are lost together give up at the same moment; among those after them some finish."""
    experiment = config(clients=12_000, concurrency=12_000)
    faults = FaultSettings.model_validate({"timeout": 0.4, "dropout": {"jobs": 0.9}})
    timeline = Timeline(experiment.model_copy(update={"faults": faults}), "continuous")
    lost_in_a_row = longest = 0
    while timeline.arrivals < 1000:
        lost_in_a_row = 0 if isinstance(timeline.advance(), Arrival) else lost_in_a_row + 1
        longest = max(longest, lost_in_a_row)
    assert longest > 10_000


def test_jobs_lost_while_a_finished_upload_waits_for_the_server_count_for_nothing(monkeypatch):
    monkeypatch.setattr(timeline_module, "_LOST_IN_A_ROW", 20)
    words = ["task.clients=400", "server.concurrency=40", "faults.timeout=0.4", "faults.dropout.jobs=0.8",
             "server.charge_time.flops_per_unit=1e5", "algorithm.warmup_versions=0",
             "algorithm.freeze_versions=0"]  # fmt: skip
    timeline = Timeline(load("digits", words), "continuous")
    lost_in_a_row = longest = 0
    while timeline.arrivals < 5:
        lost_in_a_row = 0 if isinstance(timeline.advance(), Arrival) else lost_in_a_row + 1
        longest = max(longest, lost_in_a_row)
    assert longest > 60


def test_clients_are_drawn_uniformly():
    timeline = Timeline(config(clients=20, concurrency=2), "continuous")
    clients = [timeline.advance().task.client_id for _ in range(20_000)]
    counts = np.bincount(clients, minlength=20)
    assert counts.min() > 800
    assert counts.max() < 1200

"""server.charge_time: the server as a queue in virtual time, still a pure function of configuration and seed."""

from __future__ import annotations

import numpy as np
import pytest

from fedrevive.settings.loading import load
from fedrevive.simulation.delays import NANOSECONDS
from fedrevive.simulation.planning import schedule, server_flops
from fedrevive.simulation.server_work import forward_work
from fedrevive.simulation.timeline import Timeline

SMALL = ["task.clients=20", "server.concurrency=6", "stop.arrivals=60", "algorithm.warmup_versions=8"]


def charged(flops_per_unit: float, *more: str):
    return load("digits", [*SMALL, f"server.charge_time.flops_per_unit={flops_per_unit}", *more])


def played(config, arrivals: int):
    """(arrival, accepted at) of the first uploads."""
    timeline = Timeline(config, "continuous")
    steps = []
    for _ in range(arrivals):
        due = timeline.next_event_at()
        steps.append((timeline.advance(), timeline.now))
        assert timeline.now == due
        assert len(timeline.in_flight) == config.server.concurrency
    return steps


@pytest.mark.parametrize("flops_per_unit", [1e12, 1e10, 1e9])
@pytest.mark.parametrize("updates", [1, 3])
def test_an_upload_is_accepted_once_the_server_is_free_and_has_done_its_work(flops_per_unit, updates) -> None:
    config = charged(flops_per_unit, f"server.updates_per_version={updates}")
    planned = schedule(config)
    flops = server_flops(config, planned, *forward_work(config))
    cost = np.rint(flops / flops_per_unit * NANOSECONDS).astype(np.int64)
    assert len(set(cost.tolist())) > 3  # probing, synthesis, distillation
    free = 0
    for (step, accepted_at), expected in zip(played(config, 60), cost.tolist(), strict=True):
        free = max(free, step.task.arrives_at) + expected
        assert accepted_at == free
        assert all(task.dispatched_at == accepted_at for task in step.dispatched)
        assert all(task.base_arrivals == step.sequence + 1 for task in step.dispatched)
    np.testing.assert_array_equal(planned.accepted_at[-1], free)


def test_uploads_are_taken_in_order_of_arrival() -> None:
    arrived = [step.task.arrives_at for step, _ in played(charged(1e9), 200)]
    assert arrived == sorted(arrived)


@pytest.mark.parametrize("updates", [1, 3])
@pytest.mark.parametrize("flops_per_unit", [1e10, 1e8])
def test_mean_staleness_is_still_k_minus_one_over_b(flops_per_unit, updates) -> None:
    config = charged(flops_per_unit, f"server.updates_per_version={updates}", "stop.arrivals=3000")
    assert schedule(config).staleness.mean() == pytest.approx(5 / updates, rel=0.02)


def test_a_server_without_work_is_the_published_timeline() -> None:
    fedbuff = [*SMALL[:-1], "algorithm.name=fedbuff"]
    free = load("digits", fedbuff)
    busy = load("digits", [*fedbuff, "server.charge_time.flops_per_unit=1.0"])
    assert played(free, 100) == played(busy, 100)
    assert played(load("digits", SMALL), 100) == played(charged(1e30), 100)


def test_a_slow_server_stretches_virtual_time_to_its_own_work() -> None:
    config = charged(1e8)
    planned = schedule(config)
    flops = server_flops(config, planned, *forward_work(config))
    last = planned.accepted_at[-1] / NANOSECONDS
    assert last == pytest.approx(flops.sum() / 1e8, rel=0.02)  # it hardly ever waits


def test_virtual_time_stops_before_an_acceptance_beyond_it() -> None:
    config = charged(1e9, "stop.arrivals=null", "stop.virtual_time=2.0")
    planned = schedule(config)
    assert planned.accepted_at[-1] <= 2 * NANOSECONDS
    timeline = Timeline(config, "continuous")
    for _ in planned.client:
        timeline.advance()
    assert timeline.next_event_at() > 2 * NANOSECONDS

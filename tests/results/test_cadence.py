"""When snapshots are due."""

from __future__ import annotations

import math

import pytest

from fedrevive.results.cadence import (
    FIRST_AFTER,
    MEAN_TIME_BETWEEN_FAILURES,
    Cadence,
    young_interval,
)
from fedrevive.settings.experiment import SnapshotSettings


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def cadence(clock: Clock, **settings: object) -> Cadence:
    return Cadence(SnapshotSettings(**settings), lambda: False, 7.0, clock)  # type: ignore[arg-type]


def test_youngs_rule_minimises_the_time_lost() -> None:
    """Saving costs cost/interval of the time, and a failure loses half an interval."""

    def lost(interval: float) -> float:
        return 1.5 / interval + interval / 2 / 7200

    best = young_interval(1.5, 7200)
    assert best == pytest.approx(math.sqrt(2 * 1.5 * 7200))
    assert lost(best) < min(lost(0.9 * best), lost(1.1 * best))


def test_the_measured_cost_decides_when_the_next_one_is_due() -> None:
    clock = Clock()
    due = cadence(clock)
    clock.now += FIRST_AFTER - 0.1
    assert not due.snapshot_due(1)
    clock.now += 0.1
    assert due.snapshot_due(2)
    clock.now += 2.0
    due.saved()
    interval = math.sqrt(2 * 2.0 * MEAN_TIME_BETWEEN_FAILURES)
    clock.now += interval - 0.1
    assert not due.snapshot_due(3)
    clock.now += 0.2
    assert due.snapshot_due(4)
    assert due.wall_seconds == pytest.approx(7.0 + clock.now - 100.0)


def test_what_the_user_set_is_kept() -> None:
    clock = Clock()
    due = cadence(clock, every_seconds=3.0, every_arrivals=5)
    assert [arrivals for arrivals in range(1, 11) if due.snapshot_due(arrivals)] == [5, 10]
    clock.now += 3.0
    assert due.snapshot_due(11)
    clock.now += 1.0
    due.saved()
    clock.now += 2.9
    assert not due.snapshot_due(12)


def test_failures_that_were_seen_replace_the_assumption() -> None:
    clock = Clock()
    due = cadence(clock)
    clock.now += 1.0
    due.failed()  # one failure a second: the first snapshot does not wait for FIRST_AFTER
    clock.now += 1.01 * FIRST_AFTER / math.sqrt(MEAN_TIME_BETWEEN_FAILURES)
    assert due.snapshot_due(1)
    clock.now += 0.5
    due.saved()
    clock.now += 0.9 * young_interval(0.5, 1.0)
    assert not due.snapshot_due(2)
    clock.now += 0.2 * young_interval(0.5, 1.0)
    assert due.snapshot_due(3)
    fixed = cadence(clock, every_seconds=3.0)
    fixed.failed()
    clock.now += 2.9
    assert not fixed.snapshot_due(1)

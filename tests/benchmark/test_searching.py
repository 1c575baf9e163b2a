"""Throughput of processes that start and end at different moments."""

import pytest

from fedrevive.benchmark.searching import seconds_per_arrival


def worked(worker, start, count, seconds=1.0):
    """`count` server steps of `seconds` each, back to back."""
    return [
        {"kind": "apply", "worker": worker, "started_at": start + n * seconds, "duration_ms": 1e3 * seconds}
        for n in range(count)
    ]


def test_only_the_time_when_all_work_counts():
    """The second process starts 4 s late; from then on two steps a second, until the first is done."""
    pieces = [*worked("a", 0.0, 20), *worked("b", 4.5, 30)]
    assert seconds_per_arrival(pieces) == pytest.approx(15.5 / 31)


def test_a_pause_between_two_runs_of_a_process_counts():
    together = [*worked("a", 0.0, 10), *worked("b", 0.0, 10)]
    paused = [*worked("a", 0.0, 5), *worked("a", 10.0, 5), *worked("b", 0.0, 15)]
    assert seconds_per_arrival(together) == pytest.approx(0.5)
    assert seconds_per_arrival(paused) > 0.58


def test_processes_one_after_the_other_are_measured_as_a_whole():
    assert seconds_per_arrival([*worked("a", 0.0, 10), *worked("b", 15.0, 5)]) == pytest.approx(20 / 15)


def test_one_process():
    assert seconds_per_arrival(worked("a", 3.0, 8, seconds=0.5)) == pytest.approx(0.5)

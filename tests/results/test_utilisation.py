"""Shares of time and the longest chain, on timelines small enough to count by hand."""

import pytest

from fedrevive.results.schemas import ARRIVALS, TIMINGS
from fedrevive.results.tables import table_from_rows
from fedrevive.results.utilisation import utilisation


def arrivals(*versions):
    """Rows with (base_version, server_version, new_version)."""
    zeros = {field.name: 0 if str(field.type) == "int64" else 0.0 for field in ARRIVALS if not field.nullable}
    rows = [
        {**zeros, "sequence": n, "base_version": base, "server_version": met, "new_version": new}
        for n, (base, met, new) in enumerate(versions)
    ]
    return table_from_rows(ARRIVALS, rows)


def timings(*rows):
    """Rows with (kind, sequence, worker, start in s, duration in s)."""
    names = ("kind", "sequence", "worker", "started_at", "duration_ms")
    made = [
        {**dict(zip(names, (k, n, w, float(t), 1e3 * d), strict=True)), "host": "here", "cpu_ms": 0.0}
        for k, n, w, t, d in rows
    ]
    return table_from_rows(TIMINGS, made)


TWO_WORKERS = timings(
    ("train", 0, "a", 0, 4),
    ("train", 1, "b", 0, 2),
    ("apply", 0, "s", 4, 1),
    ("apply", 1, "s", 7, 1),
    ("train", 2, "b", 6, 2),
    ("evaluate", 3, "a", 7, 1),
    ("apply", 2, "s", 11, 1),
)


def test_shares_of_time_count_from_a_process_first_work_to_its_last():
    found = utilisation(arrivals((0, 0, 1), (0, 1, 2), (1, 2, 3)), TWO_WORKERS)
    assert found.workers == {"here/a": pytest.approx(5 / 8), "here/b": pytest.approx(4 / 8)}
    assert found.server == pytest.approx(3 / 8)
    assert found.summary()["workers"] == pytest.approx(9 / 16)


def test_a_job_waits_for_its_base_and_a_step_for_the_one_before():
    # Steps end at 4+1, then 5+1 (its job took 2 only), then max(6, 5+2)+1: the third job starts from version 1.
    assert utilisation(
        arrivals((0, 0, 1), (0, 1, 2), (1, 2, 3)), TWO_WORKERS
    ).critical_path_seconds == pytest.approx(8)
    # From the untrained model all jobs run side by side; from the newest they follow one another.
    assert utilisation(
        arrivals((0, 0, 1), (0, 1, 2), (0, 2, 3)), TWO_WORKERS
    ).critical_path_seconds == pytest.approx(7)
    assert utilisation(
        arrivals((0, 0, 1), (1, 1, 2), (2, 2, 3)), TWO_WORKERS
    ).critical_path_seconds == pytest.approx(11)


def test_a_version_of_two_updates_exists_with_the_second():
    found = utilisation(arrivals((0, 0, 0), (0, 0, 1), (1, 1, 1)), TWO_WORKERS)
    assert found.critical_path_seconds == pytest.approx(6 + 2 + 1)


def test_a_version_that_no_arrival_made_exists_with_the_last_step_of_its_cohort():
    """A cohort that lost an upload ends in a version of its own; the next one's jobs run side by side."""
    found = utilisation(arrivals((0, 0, 0), (0, 0, 0), (1, 1, 1)), TWO_WORKERS)
    assert found.critical_path_seconds == pytest.approx(6 + 2 + 1)
    found = utilisation(arrivals((0, 0, 0), (1, 1, 1), (1, 1, 1)), TWO_WORKERS)
    assert found.critical_path_seconds == pytest.approx(5 + max(2 + 1, 2) + 1)


def test_time_between_two_sessions_counts_for_nobody():
    resumed = timings(
        ("train", 0, "a", 0, 1),
        ("apply", 0, "a", 1, 1),
        ("train", 1, "b", 1000, 1),
        ("apply", 1, "b", 1001, 1),
    )
    found = utilisation(arrivals((0, 0, 1), (1, 1, 2)), resumed)
    assert (set(found.workers.values()), found.server) == ({0.5}, 0.5)


def test_nothing_happened():
    found = utilisation(arrivals(), timings())
    assert found.summary() == {"workers": 0.0, "server": 0.0, "critical_path_seconds": 0.0}

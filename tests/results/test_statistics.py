"""Intervals against scipy, and the rows of a comparison."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fedrevive.results.schemas import RUNS
from fedrevive.results.statistics import comparison_rows, mean_interval, paired_difference
from fedrevive.results.tables import table_from_rows

SHARES = st.lists(st.floats(0, 1), min_size=2, max_size=12)


@given(SHARES)
def test_mean_interval_equals_scipy(values):
    mean, low, high = mean_interval(values)
    assert mean == pytest.approx(np.mean(values))
    if np.std(values) > 1e-9:
        expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
        assert (low, high) == pytest.approx((expected.low, expected.high))
    else:
        assert (low, high) == pytest.approx((mean, mean), abs=1e-6)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12))
def test_paired_difference_equals_the_paired_t_test(pairs):
    a, b = np.array(pairs).T
    mean, low, high = paired_difference(a, b)
    assert mean == pytest.approx(np.mean(a - b))
    if np.std(a - b) > 1e-9:
        expected = stats.ttest_rel(a, b).confidence_interval(0.95)
        assert (low, high) == pytest.approx((expected.low, expected.high))


def test_one_value_has_no_interval_and_lengths_must_agree():
    mean, low, high = paired_difference([0.5], [0.25])
    assert mean == 0.25
    assert np.isnan([low, high]).all()
    assert np.isnan(mean_interval([])).all()
    with pytest.raises(ValueError, match="equal lengths"):
        paired_difference([1.0, 2.0], [1.0])


def run(label, seed, final, time_to_target=None, censored=None):
    texts = {"algorithm": label, "run_id": f"{label}{seed}", "status": "finished", "configuration": ""}
    numbers = {
        "selected": True,
        "arrivals": 1,
        "versions": 1,
        "virtual_time": 1.0,
        "wall_seconds": 2.0,
        "oracle": False,
        "follows": None,
        "client_cpu_seconds": 5.0,
        "server_cpu_seconds": 6.0,
        "client_flops": 3.0,
    }
    measured = {"server_flops": 4.0, "auc": final, "time_to_target": time_to_target, "censored": censored}
    return {"label": label, "seed": seed, "final_accuracy": final, **texts, **numbers, **measured}


def test_comparison_pairs_by_seed_and_counts_what_is_missing():
    runs = [run("fedbuff", seed, 0.5 + seed / 100, censored=True) for seed in (0, 1, 2)]
    runs += [run("fedrevive", seed, 0.6 + seed / 100, 10.0 + seed, censored=False) for seed in (2, 1, 3)]
    runs += [run("fedrevive", 0, None)]
    buff, revive = comparison_rows(table_from_rows(RUNS, runs), reference="fedbuff")
    assert (buff["label"], buff["seeds"], buff["censored"], buff["difference"]) == ("fedbuff", 3, 3, None)
    assert buff["time_to_target"] == {"mean": None, "low": None, "high": None}
    assert (revive["seeds"], revive["failed"], revive["censored"]) == (3, 1, 0)
    assert revive["difference"]["pairs"] == 2
    assert revive["difference"]["mean"] == pytest.approx(0.1)
    assert revive["difference"]["low"] == pytest.approx(0.1)
    assert revive["time_to_target"]["mean"] == pytest.approx(12.0)
    assert revive["final_accuracy"]["mean"] == pytest.approx(0.62)
    assert (revive["client_flops"], revive["server_flops"], revive["wall_seconds"]) == (3.0, 4.0, 2.0)


def test_comparison_needs_a_known_reference():
    table = table_from_rows(RUNS, [run("fedbuff", 0, 0.5)])
    with pytest.raises(ValueError, match="fedbuff"):
        comparison_rows(table, reference="fedavg")
    assert comparison_rows(table)[0]["difference"] is None
    assert comparison_rows(table.slice(0, 0)) == []

"""Medians, ranges, ratios, order of repetitions, and disagreement that must not pass."""

from dataclasses import replace

import pytest

from fedrevive.benchmark.measuring import Sample, further, interleaved, row


def test_a_ratio_is_taken_repetition_by_repetition():
    """The machine slows down by half in the second repetition: both sides do, so the ratio stays."""
    measured = row("efficiency", "ms", [10.0, 20.0, 12.0], [8.0, 16.0, 9.0])
    assert (measured.ours, measured.ours_min, measured.ours_max) == (12.0, 10.0, 20.0)
    assert measured.reference == 9.0
    assert (measured.ratio_min, measured.ratio, measured.ratio_max) == (0.75, 0.8, 0.8)
    assert measured.repetitions == 3


def test_a_rate_is_better_when_it_is_higher_and_a_cost_when_it_is_lower():
    assert row("rate", "1/s", [20.0], [10.0], more_is_better=True).ratio == 2.0
    assert row("cost", "ms", [20.0], [10.0]).ratio == 0.5


def test_an_even_number_of_repetitions_has_the_median_in_the_middle():
    assert row("cost", "ms", [1.0, 2.0, 4.0, 100.0]).ours == 3.0


def test_without_a_reference_there_is_no_ratio():
    measured = row("cost", "ms", [1.0, 2.0])
    assert (measured.reference, measured.ratio, measured.ratio_min, measured.ratio_max) == (None,) * 4


def test_what_could_not_be_measured_gives_no_ratio():
    """A clock that counts in steps of 10 ms may read zero."""
    measured = row("cost", "ms", [0.0, 2.0], [1.0, 3.0])
    assert (measured.ratio, measured.ratio_min, measured.ratio_max) == (1.5, 1.5, 1.5)
    assert row("cost", "ms", [0.0], [1.0]).ratio is None


def test_sides_must_have_equally_many_repetitions():
    with pytest.raises(ValueError, match="2 repetitions beside 1"):
        row("cost", "ms", [1.0, 2.0], [1.0])


def test_cases_take_turns_forwards_and_backwards():
    order = []

    def case(name):
        def measure():
            order.append(name)
            return Sample(float(len(order)), 0.0)

        return measure

    taken = interleaved({name: case(name) for name in "abc"}, 3)
    assert "".join(order) == "abccbaabc"
    assert [sample.cpu_ms for sample in taken["a"]] == [1.0, 6.0, 7.0]


def test_other_results_in_a_later_repetition_are_an_error():
    checksums = iter(["same", "same", "other"])
    with pytest.raises(RuntimeError, match="a gave 2 different results in 3 repetitions"):
        interleaved({"a": lambda: Sample(1.0, 1.0, next(checksums))}, 3)


def test_further_measurements_become_rows_as_far_as_there_are_any():
    sample = Sample(1.0, 1.0, more={"busy": 0.5})
    rows = further([sample, replace(sample, more={"busy": 0.7})], {"busy": "share", "absent": "s"})
    assert [(r.metric, r.unit, r.ours) for r in rows] == [("busy", "share", pytest.approx(0.6))]

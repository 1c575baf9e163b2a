"""Windows of availability, against counting nanosecond by nanosecond."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrevive.settings.errors import UserError
from fedrevive.simulation.availability import Availability
from fedrevive.simulation.trace_table import Windows


@st.composite
def windows(draw):
    """One to four windows of whole nanoseconds, which may touch, and the period."""
    edges = sorted(draw(st.sets(st.integers(0, 30), min_size=2, max_size=8)))
    pairs = list(zip(edges[::2], edges[1::2], strict=False))
    if draw(st.booleans()) and len(edges) > 2:
        pairs = list(pairwise(edges))
    period = edges[-1] + draw(st.integers(0, 5))
    starts, ends = np.array(pairs, np.float64).T
    return Windows(starts, ends, float(period))


def inside(each, moment):
    within = moment % each.period
    return any(start <= within < end for start, end in zip(each.start, each.end, strict=True))


@given(windows(), st.integers(0, 200))
def test_opens_is_the_first_moment_inside(each, time):
    expected = next(moment for moment in range(time, time + 100) if inside(each, moment))
    assert Availability([each], [0], 1.0).opens(0, time) == expected


@given(windows(), st.integers(0, 200), st.integers(0, 60))
def test_work_takes_its_nanoseconds_inside_and_rests_outside(each, start, work):
    available = Availability([each], [0], 1.0)
    start = available.opens(0, start)
    moment, done = start, 0
    while done < work:
        done += inside(each, moment)
        moment += 1
    assert available.lasts(0, start, work) == moment - start


def test_who_has_no_windows_is_always_available():
    available = Availability([None, Windows(np.array([5.0]), np.array([6.0]), 10.0)], [1, 0], 1.0)
    assert (available.opens(1, 3), available.lasts(1, 3, 7)) == (3, 7)
    assert available.opens(0, 3) == 5


def test_units():
    each = Windows(np.array([0.5]), np.array([1.5]), 2.0)
    assert Availability([each], [0], 10.0).opens(0, 16) == 25


def test_windows_that_vanish_are_refused():
    each = Windows(np.array([5.0]), np.array([6.0]), 10.0)
    with pytest.raises(UserError, match=r"delays\.seconds_per_unit"):
        Availability([each], [0], 1e-3)

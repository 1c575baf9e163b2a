"""The one table that describes devices: reading it and saying what is wrong with it, with its line (docs/traces.md).

A row is one observation of one device; an empty cell was not observed. Rows of a device stand in order of time.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedrevive.settings.delays import TraceDelays
from fedrevive.settings.errors import UserError
from fedrevive.settings.trace_digest import digest
from fedrevive.simulation.trace_rows import DEVICE, SERIES, WINDOW, TraceRows, read_rows

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_MOST = 1e9
"""Largest number in the table: 30 years in seconds, or 1 Tbit/s. Ours."""
_LAST_DEVICE = 2**53


class Series(NamedTuple):
    """What was observed of one quantity, device after device, in order of time."""

    values: Float64
    """[observations]"""
    first: Int64
    """[devices]: where a device's observations begin."""
    counts: Int64
    """[devices]; 0 = never observed."""


class Windows(NamedTuple):
    """When one device is available: from `start` until just before `end`, again every `period` seconds."""

    start: Float64
    """[windows], ascending."""
    end: Float64
    period: float


@dataclass(frozen=True)
class TraceTable:
    """Devices by position, in ascending order of their numbers."""

    series: dict[str, Series]
    """By name, all of `SERIES`."""
    windows: tuple[Windows | None, ...]
    """[devices]; None = always available."""

    @property
    def devices(self) -> int:
        """How many there are, >= 1."""
        return len(self.windows)


def load_trace(delays: TraceDelays) -> TraceTable:
    """The table of a configuration, read once per process.

    Raises:
        UserError: there is none, it is another one than `delays.sha256` says, or it is malformed.
    """
    return _read(Path(os.path.expanduser(delays.path)), digest(delays))


@functools.lru_cache(maxsize=4)
def _read(path: Path, sha256: str) -> TraceTable:
    return read_trace(path)


def read_trace(path: Path) -> TraceTable:
    """Read and check a table.

    Raises:
        UserError: it is not a table as docs/traces.md says; names the first line (CSV) or row (Parquet) at fault.
    """
    rows = read_rows(path)
    if not len(rows.columns[DEVICE]):
        raise UserError("delays.path: no rows; a table has at least one device", place=str(path))
    _check_values(rows)
    order = np.argsort(rows.columns[DEVICE], kind="stable")  # rows of a device keep their order
    numbers, first = np.unique(rows.columns[DEVICE][order], return_index=True)
    bounds = np.append(first, len(order))
    series = {name: _series(rows.columns[name][order], bounds) for name in SERIES}
    for device in np.flatnonzero(series["step_seconds"].counts == 0):
        rows.fail(
            int(order[first[device]]),
            f"device {numbers[device]:.0f} has no step_seconds; it needs one or more",
        )
    windows = tuple(_windows(rows, order[a:b]) for a, b in pairwise(bounds.tolist()))
    return TraceTable(series, windows)


def _series(values: Float64, bounds: Int64) -> Series:
    observed = ~np.isnan(values)
    before = np.concatenate([[0], np.cumsum(observed)])[bounds]
    return Series(values[observed], before[:-1], np.diff(before))


def _check_values(rows: TraceRows) -> None:
    columns = rows.columns
    device = columns[DEVICE]
    rows.require(
        (device >= 0) & (device <= _LAST_DEVICE) & (device == np.floor(device)), DEVICE, "an integer >= 0"
    )
    for name in (*SERIES, *WINDOW):
        positive = name.endswith("_kbps") or name == "period_seconds"
        value = columns[name]
        allowed = np.isnan(value) | ((value > 0 if positive else value >= 0) & (value <= _MOST))
        rows.require(allowed, name, f"empty or a number {'>' if positive else '>='} 0, at most {_MOST:g}")
    empty = np.isnan([columns[name] for name in (*SERIES, *WINDOW)]).all(axis=0)
    if empty.any():
        rows.fail(
            int(np.argmax(empty)), "nothing is observed of the device; fill in a cell or delete the row"
        )
    start, end, period = (columns[name] for name in WINDOW)
    parts = np.isnan([start, end, period]).sum(axis=0)
    if partial := np.flatnonzero((parts > 0) & (parts < 3)).tolist():
        rows.fail(partial[0], f"a window needs all of {', '.join(WINDOW)}")
    rows.require(np.isnan(end) | (end > start), WINDOW[1], f"after {WINDOW[0]}")
    rows.require(np.isnan(end) | (end <= period), WINDOW[1], f"at most {WINDOW[2]}")


def _windows(rows: TraceRows, at: Int64) -> Windows | None:
    """The windows in rows `at`, those of one device."""
    at = at[~np.isnan(rows.columns[WINDOW[0]][at])]
    if not len(at):
        return None
    start, end, period = (rows.columns[name][at] for name in WINDOW)
    if (late := np.flatnonzero(start[1:] < end[:-1])).size:
        row = int(at[late[0] + 1])
        rows.fail(row, f"{WINDOW[0]}: {start[late[0] + 1]:g} is before the end of the device's window above")
    if (other := np.flatnonzero(period != period[0])).size:
        row = int(at[other[0]])
        rows.fail(
            row, f"period_seconds: {period[other[0]]:g}, but {period[0]:g} in the device's first window"
        )
    return Windows(start, end, float(period[0]))

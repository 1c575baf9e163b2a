"""When clients are available: windows that repeat, in integer virtual nanoseconds."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from fedrevive.settings.errors import UserError
from fedrevive.simulation.delays import LONGEST_UNITS, NANOSECONDS
from fedrevive.simulation.trace_table import Windows

_LONGEST = LONGEST_UNITS * NANOSECONDS


@dataclass(frozen=True)
class RepeatedWindows:
    """Windows [start, end) of one device, again in every period; at least one, none of them empty."""

    starts: tuple[int, ...]
    """Nanoseconds after the beginning of a period, ascending."""
    ends: tuple[int, ...]
    used: tuple[int, ...]
    """[windows + 1]: available nanoseconds of a period before each window, and of all of it."""
    period: int

    def opens(self, time: int) -> int:
        """The first moment from `time` on at which the device is available."""
        cycle, within = divmod(time, self.period)
        at = bisect_right(self.ends, within)  # the first window that is not over
        if at == len(self.ends):
            return (cycle + 1) * self.period + self.starts[0]
        return cycle * self.period + max(within, self.starts[at])

    def finished(self, start: int, work: int) -> int:
        """The first moment by which the device has been available for `work` nanoseconds since `start`."""
        cycle, rest = divmod(self._available_until(start) + work, self.used[-1])
        if rest == 0:  # exactly a whole period's worth: the last window of the period before is just over
            return max(start, (cycle - 1) * self.period + self.ends[-1])
        at = bisect_left(self.used, rest) - 1
        return max(start, cycle * self.period + self.starts[at] + rest - self.used[at])

    def _available_until(self, time: int) -> int:
        """Available nanoseconds before `time`."""
        cycle, within = divmod(time, self.period)
        at = bisect_right(self.starts, within) - 1
        in_cycle = 0 if at < 0 else self.used[at] + min(within, self.ends[at]) - self.starts[at]
        return cycle * self.used[-1] + in_cycle


class Availability:
    """Windows of every client.

    Args:
        windows: of every device; None = always available.
        device_of: the device that each client behaves as.
        units: virtual nanoseconds in a second of the windows.

    Raises:
        UserError: a device has no window of a nanosecond, `delays.seconds_per_unit` is too large.
    """

    def __init__(self, windows: Sequence[Windows | None], device_of: Sequence[int], units: float) -> None:
        self._windows = [None if each is None else _repeated(each, units) for each in windows]
        self._device_of = device_of

    def opens(self, client: int, time: int) -> int:
        """The first moment from `time` on at which the client is available, in virtual nanoseconds."""
        windows = self._windows[self._device_of[client]]
        return time if windows is None else windows.opens(time)

    def lasts(self, client: int, start: int, work: int) -> int:
        """Nanoseconds that a client which begins at `start` takes for `work` nanoseconds of work.

        It works, and sends, only within its windows, and goes on in the next one.
        """
        windows = self._windows[self._device_of[client]]
        return work if windows is None else min(windows.finished(start, work) - start, _LONGEST)


def _repeated(windows: Windows, units: float) -> RepeatedWindows:
    edges = [(round(a * units), round(b * units)) for a, b in zip(windows.start, windows.end, strict=True)]
    kept = [(start, end) for start, end in edges if start < end]
    if not kept:
        raise UserError(
            "delays.seconds_per_unit: a device's windows last less than a virtual nanosecond; lower it"
        )
    used = tuple(accumulate((end - start for start, end in kept), initial=0))
    starts, ends = zip(*kept, strict=True)
    return RepeatedWindows(starts, ends, used, max(round(windows.period * units), ends[-1]))

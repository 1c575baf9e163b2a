"""When to save resume state: by arrivals, by real seconds, at once when interrupted.

Real time decides only how much work a crash costs, never what a table holds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from fedrevive.settings.experiment import SnapshotSettings

MEAN_TIME_BETWEEN_FAILURES = 4 * 3600.0
"""Real seconds, assumed by `snapshots.every_seconds: auto` until failures are seen: preemptible machines and job
queues. Ours."""
FIRST_AFTER = 10.0
"""Real seconds before the first snapshot, whose cost nobody knows yet. Ours."""


def young_interval(cost: float, mean_time_between_failures: float) -> float:
    """Real seconds between two snapshots that lose the least time in all: sqrt(2 * cost * MTBF).

    J. W. Young, A first order approximation to the optimum checkpoint interval, CACM 17(9), 1974.

    Args:
        cost: real seconds of one snapshot, >= 0.
        mean_time_between_failures: real seconds, > 0.
    """
    return math.sqrt(2.0 * cost * mean_time_between_failures)


class Cadence:
    """Says when a snapshot is due, and how long a run took.

    Args:
        settings: `snapshots` of the experiment.
        interrupted: asked after every arrival; a snapshot is due at once.
        earlier: real seconds of the sessions before this one.
        clock: real seconds from any origin.
    """

    def __init__(
        self,
        settings: SnapshotSettings,
        interrupted: Callable[[], bool],
        earlier: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._interrupted = interrupted
        self._clock = clock
        self._started = self._saved = self._asked = clock()
        self._earlier = earlier
        self._interval = FIRST_AFTER if settings.every_seconds == "auto" else settings.every_seconds
        self._failures, self._between_failures = 0, MEAN_TIME_BETWEEN_FAILURES

    @property
    def wall_seconds(self) -> float:
        """Real seconds of this and of the interrupted sessions up to their last snapshot."""
        return self._earlier + self._clock() - self._started

    def snapshot_due(self, arrivals: int) -> bool:
        """Whether to save now, after so many arrivals."""
        self._asked = self._clock()
        every = self._settings.every_arrivals
        if every is not None and arrivals % every == 0:
            return True
        return self._interrupted() or self._asked - self._saved >= self._interval

    def saved(self) -> None:
        """The snapshot that was due is durable; what it cost decides when the next one is."""
        self._saved = self._clock()
        if self._settings.every_seconds == "auto":
            self._interval = young_interval(self._saved - self._asked, self._between_failures)

    def failed(self) -> None:
        """The run starts again from its latest snapshot; failures that come often bring snapshots more often."""
        self._saved = self._clock()
        self._failures += 1
        seen = max(1.0, min(self._between_failures, (self._saved - self._started) / self._failures))
        if self._settings.every_seconds == "auto":
            self._interval *= math.sqrt(seen / self._between_failures)
        self._between_failures = seen

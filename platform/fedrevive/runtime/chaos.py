"""Killing a run's own actors while it works, to see that it ends with the same results.

The moments are drawn from a seed, in real time, so no two runs are hit at the same places; the first two kills take one
client actor and the server actor. Between two kills the run must have moved on, so that it always comes to its end.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from fedrevive.simulation.records import ArrivalRecord, Record

KINDS = ("client", "server")
FIRST_PAUSE = (0.0, 1.0)
"""Real seconds between the first arrival and the first kill, uniform. Ours."""
PAUSE = (1.0, 3.0)
"""Real seconds between the first arrival after a kill and the next kill, uniform. Ours."""
_POLL_SECONDS = 0.05


class Chaos:
    """Kills actors at random moments.

    Args:
        seed: of moments and victims.
    """

    def __init__(self, seed: int) -> None:
        self.killed = dict.fromkeys(KINDS, 0)
        """Actors killed so far, by kind."""
        self._draws = random.Random(seed)
        self._moved_on = threading.Event()
        self._over = threading.Event()

    def during(
        self, records: Iterable[Record], pids: Callable[[], Mapping[str, Sequence[int]]]
    ) -> Iterator[Record]:
        """Pass on the records of a run and kill its actors meanwhile.

        Args:
            records: of the run.
            pids: process ids of its living actors by kind, as far as they are known.
        """
        killer = threading.Thread(target=self._kill, args=(pids,), daemon=True)
        killer.start()
        try:
            for record in records:
                if isinstance(record, ArrivalRecord):
                    self._moved_on.set()
                yield record
        finally:
            self._over.set()
            killer.join()

    def _kill(self, pids: Callable[[], Mapping[str, Sequence[int]]]) -> None:
        due, pause = self._draws.sample(KINDS, len(KINDS)), FIRST_PAUSE
        dead: set[int] = set()
        while self._next_moment(pause):
            kind, pause = due.pop() if due else self._draws.choice(KINDS), PAUSE
            if not self._kill_one(kind, pids, dead):
                return

    def _kill_one(self, kind: str, pids: Callable[[], Mapping[str, Sequence[int]]], dead: set[int]) -> bool:
        """Kill a living actor, once there is one; False when the run is over first."""
        while True:
            alive = [pid for pid in pids()[kind] if pid not in dead]
            if not alive:  # it is just being replaced
                if self._over.wait(_POLL_SECONDS):
                    return False
                continue
            victim = self._draws.choice(alive)
            dead.add(victim)
            self._moved_on.clear()
            with suppress(ProcessLookupError):  # it has ended by itself
                os.kill(victim, signal.SIGKILL)
                self.killed[kind] += 1
                return True

    def _next_moment(self, pause: tuple[float, float]) -> bool:
        """Wait until the run moves on and then a little; False when it is over."""
        while not self._moved_on.wait(_POLL_SECONDS):
            if self._over.is_set():
                return False
        return not self._over.wait(self._draws.uniform(*pause))

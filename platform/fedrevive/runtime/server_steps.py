"""Steps for the server actor, in the order of the timeline, several to a call when they are cheap."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from fedrevive.runtime.lane import Lane
from fedrevive.runtime.server_actor import Outcome, ServerStep
from fedrevive.runtime.stored import CALL_SECONDS, Arguments, Batch, Stored
from fedrevive.runtime.waiting import fetched
from fedrevive.settings.errors import UserError


@dataclass(frozen=True)
class _Waiting:
    """A step that was not sent yet: one upload, or the end of a cohort (None)."""

    upload: tuple[Stored, Stored, int] | None
    """The model its client started from, the update, uploads taken before."""


@dataclass(frozen=True)
class _Call:
    """Steps under way."""

    first: int
    steps: int
    done: Any
    """Reference to the outcomes."""


class ServerSteps:
    """Collects steps until they are sent, and their outcomes.

    Args:
        lane: its server actor does the work.
        most: steps per call, at most.
    """

    def __init__(self, lane: Lane, most: int) -> None:
        self._lane, self._limit = lane, most
        self.outcomes: dict[int, Outcome] = {}
        """By number of the step; they have numbers of their own: cohorts of which nothing arrives end at the same
        number of arrivals."""
        self.settled = 0
        """Number of the latest step whose model is known to exist."""
        self.error: UserError | None = None
        """What ended the run; no step is carried out any more."""
        self._batch = Batch()
        self._waiting: list[_Waiting] = []
        self._calls: deque[_Call] = deque()
        self._added = 0
        self._seconds = CALL_SECONDS

    @property
    def most(self) -> int:
        """Steps that are now worth a call: long enough to hide its cost, short enough for clients not to wait."""
        return max(1, min(self._limit, round(CALL_SECONDS / self._seconds)))

    @property
    def under_way(self) -> list[Any]:
        """The reference to wait for, if any."""
        return [self._calls[0].done] if self._calls else []

    def take(self, base: Stored, update: Stored, taken: int) -> tuple[int, Stored]:
        """Take an upload: number of the step, and the model afterwards."""
        return self._add(_Waiting((base, update, taken)))

    def end_cohort(self) -> tuple[int, Stored]:
        """End a cohort: number of the step, and the model afterwards."""
        return self._add(_Waiting(None))

    def send(self) -> None:
        """Ask the server to carry out what was collected; the models it makes have references from now on."""
        if not self._waiting or self.error is not None:
            return
        arguments = Arguments()
        steps = [_placed(waiting, arguments) for waiting in self._waiting]
        call = self._lane.server.carry_out.options(num_returns=2)
        self._batch.reference, done = call.remote(steps, *arguments.references)
        self._calls.append(_Call(self._added - len(steps) + 1, len(steps), done))
        self._waiting, self._batch = [], Batch()

    def collect(self) -> None:
        """Take the outcomes of the oldest call, which has ended.

        Raises:
            LostError: the server is gone.
        """
        call = self._calls.popleft()
        outcomes, seconds = fetched(call.done)
        self.outcomes.update(enumerate(outcomes, start=call.first))
        self.settled = call.first + len(outcomes) - 1
        if isinstance(outcomes[-1], UserError):
            self.error = outcomes[-1]
            self.settled -= 1
            self._calls.clear()
            return
        self._seconds = 0.5 * self._seconds + 0.5 * max(1e-5, seconds / call.steps)

    def _add(self, waiting: _Waiting) -> tuple[int, Stored]:
        self._waiting.append(waiting)
        self._added += 1
        made = self._added, Stored(self._batch, len(self._waiting) - 1, self._added)
        if len(self._waiting) >= self.most:
            self.send()
        return made


def _placed(waiting: _Waiting, arguments: Arguments) -> ServerStep:
    if waiting.upload is None:
        return ServerStep()
    base, update, taken = waiting.upload
    return ServerStep(arguments.place(base), arguments.place(update), taken)

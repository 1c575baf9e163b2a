"""Models and updates in Ray's object store: what one actor call returns is one object, a list, however long.

An object costs its maker, Ray's daemon and every reader about as much as a few hundred kilobytes of content; small
models therefore travel many to an object, which lives until the last of them is no longer needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

CALL_SECONDS = 0.075
"""Work per actor call: long enough to hide a call's cost (about 1 ms), short enough to keep the order of arrivals."""
MOST_PER_CALL = 16
"""Jobs or server steps in one actor call. Ours."""
CALL_BYTES = 16 << 20
"""Models or updates in one object: beyond that, another object costs nothing beside its content. Ours."""
HELD_BYTES = 1 << 30
"""What objects may hold at worst, each kept whole by one client in flight. Ours."""


@dataclass
class Batch:
    """What one actor call returns."""

    reference: Any = None
    """To the list; None until the call is made."""


@dataclass(frozen=True)
class Stored:
    """One model, or one update."""

    batch: Batch
    row: int
    """Position in the list."""
    step: int = 0
    """Number of the server step that makes it; 0 = it is there."""


class Place(NamedTuple):
    """Where an actor finds one among the lists it was given."""

    argument: int
    row: int


class Arguments:
    """Collects what a call needs, each list once."""

    def __init__(self) -> None:
        self._positions: dict[Any, int] = {}

    def place(self, stored: Stored) -> Place:
        """Where the actor will find it."""
        assert stored.batch.reference is not None, "the call that makes it was not made"
        return Place(self._positions.setdefault(stored.batch.reference, len(self._positions)), stored.row)

    @property
    def references(self) -> list[Any]:
        """The lists, in the order of `Place.argument`."""
        return list(self._positions)


def found(place: Place, batches: Sequence[Sequence[T]]) -> T:
    """What lies there."""
    return batches[place.argument][place.row]


def most_per_call(model_bytes: int, concurrency: int) -> int:
    """Models that may share an object.

    Args:
        model_bytes: size of one.
        concurrency: clients in flight.
    """
    return max(1, min(MOST_PER_CALL, CALL_BYTES // model_bytes, HELD_BYTES // (concurrency * model_bytes)))

"""Search spaces: dotted paths with distributions, and sub-spaces that only one choice brings along.

    server.lr: {loguniform: [0.01, 1.0]}
    algorithm.beta.family:
      choice:
        constant:
          algorithm.beta.value: {uniform: [0.25, 1.0]}
        one_minus_cosine: {}

Both ends of a range can be drawn. A `choice` written as a mapping is conditional: each value brings its own
parameters and no others. All of this is our choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

Point = dict[str, Any]
"""Dotted path -> value: what one trial sets."""

RANGES = ("uniform", "loguniform", "quniform", "randint", "lograndint")
LISTS = ("choice", "grid")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    kind: str
    """One of RANGES."""
    low: float
    high: float
    step: float | None = None
    """Of quniform: the grid that values are rounded to; integers if all three numbers are."""

    @property
    def integer(self) -> bool:
        """Whether values are integers."""
        return isinstance(self.low, int)

    @property
    def logarithmic(self) -> bool:
        """Whether the logarithm is uniform."""
        return self.kind.startswith("log")

    @property
    def corners(self) -> tuple[Any, ...]:
        """Values that stand for all others when a space is checked."""
        return (self.low, self.high)

    @property
    def size(self) -> int | None:
        """How many values there are; None for a continuum."""
        if self.step is not None:
            return round((self.high - self.low) / self.step) + 1
        return int(self.high - self.low) + 1 if self.integer else None

    def branch(self, index: int) -> Space:
        """Parameters that the value at `index` of `corners` brings along: none."""
        return ()


@dataclass(frozen=True)
class Choices:
    """Values that are listed, each with the parameters it brings along."""

    kind: str
    """One of LISTS."""
    values: tuple[Any, ...]
    branches: tuple[Space, ...]

    @property
    def corners(self) -> tuple[Any, ...]:
        """All values."""
        return self.values

    @property
    def size(self) -> int | None:
        """Number of values, each counted with the points of its sub-space."""
        sizes = [space_size(branch) for branch in self.branches]
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None

    def branch(self, index: int) -> Space:
        """Parameters that the value at `index` brings along."""
        return self.branches[index]


Distribution = Range | Choices


@dataclass(frozen=True)
class Parameter:
    """One searched path."""

    path: str
    distribution: Distribution
    key: str
    """Where it stands in the search file; differs between branches that search the same path."""


Space = tuple[Parameter, ...]


def parameters(space: Space) -> Iterator[Parameter]:
    """All parameters, those of branches included, in the order of the file."""
    for parameter in space:
        yield parameter
        if isinstance(parameter.distribution, Choices):
            for branch in parameter.distribution.branches:
                yield from parameters(branch)


def space_size(space: Space) -> int | None:
    """Number of points; None when there is a continuum."""
    sizes = [parameter.distribution.size for parameter in space]
    known = [size for size in sizes if size is not None]
    return math.prod(known) if len(known) == len(sizes) else None


def corner_points(space: Space) -> Iterator[Point]:
    """Points that try every end of a range and every listed value of every branch.

    While one parameter moves the others stand at their first corner, then at their last one.
    """
    for end in (0, -1):
        resting = [_resting(parameter, end) for parameter in space]
        for position, parameter in enumerate(space):
            others: Point = {}
            for point in (*resting[:position], *resting[position + 1 :]):
                others |= point
            for index, value in enumerate(parameter.distribution.corners):
                inner = list(corner_points(parameter.distribution.branch(index))) or [{}]
                for point in inner:
                    yield {**others, parameter.path: value, **point}


def grid_points(space: Space) -> Iterator[Point]:
    """Every point of a space of lists, the last parameter fastest."""
    options = []
    for parameter in space:
        assert isinstance(parameter.distribution, Choices)
        listed = zip(parameter.distribution.values, parameter.distribution.branches, strict=True)
        options.append([{parameter.path: v, **inner} for v, b in listed for inner in grid_points(b)])
    for chosen in product(*options):
        point: Point = {}
        for part in chosen:
            point |= part
        yield point


def _resting(parameter: Parameter, end: int) -> Point:
    point = {parameter.path: parameter.distribution.corners[end]}
    for inner in parameter.distribution.branch(end):
        point |= _resting(inner, end)
    return point

"""From YAML values to a search space, with errors that name the place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fedrevive.settings.errors import UserError, did_you_mean, shown
from fedrevive_tuning.spaces import LISTS, RANGES, Choices, Distribution, Parameter, Range, Space

MOST_VALUES = 1000
FIXED = {
    "seed": "search.seeds gives the seeds",
    "name": "it never changes a result",
    "output": "it never changes a result",
    "compute": "it says where a trial runs; set it in overrides",
    "snapshots": "it never changes a result",
}
"""First words of paths that cannot be searched, and why."""


def parse_space(raw: Any, key: str, places: Mapping[str, str], taken: frozenset[str] = frozenset()) -> Space:
    """Read a mapping of dotted paths to distributions.

    Args:
        raw: the YAML value.
        key: where it stands, such as `search.space`.
        places: key -> line and file, for errors.
        taken: paths that are already set where this space applies.

    Raises:
        UserError: the first problem.
    """
    if not isinstance(raw, dict):
        raise UserError(f"{key}: {shown(raw)} is not a mapping of dotted paths", place=places.get(key, ""))
    paths = taken | raw.keys()
    space = []
    for path, value in raw.items():
        inner = f"{key}.{path}"
        place = places.get(inner, "")
        if reason := FIXED.get(path.partition(".")[0]):
            raise UserError(f"{inner}: cannot be searched; {reason}", place=place)
        if path in taken:
            raise UserError(f"{inner}: searched already where this applies; keep one of them", place=place)
        space.append(Parameter(path, _distribution(value, inner, places, paths), inner))
    return tuple(space)


def _distribution(raw: Any, key: str, places: Mapping[str, str], taken: frozenset[str]) -> Distribution:
    place = places.get(key, "")
    kinds = (*LISTS, *RANGES)
    if not isinstance(raw, dict) or len(raw) != 1:
        raise UserError(
            f"{key}: {shown(raw)} is not a distribution; write one of {', '.join(kinds)}, such as "
            "{loguniform: [0.01, 1.0]}",
            place=place,
        )
    ((kind, value),) = raw.items()
    if kind not in kinds:
        hint = did_you_mean(kind, kinds) or f"; known: {', '.join(kinds)}"
        raise UserError(f"{key}: no distribution is called {shown(kind)}{hint}", place=place)
    try:
        if kind in RANGES:
            return _range(kind, value)
        return _choices(kind, value, f"{key}.{kind}", places, taken)
    except ValueError as error:
        raise UserError(f"{key}: {kind} {error}", place=place) from None


def _range(kind: str, value: Any) -> Range:
    names = "[low, high, step]" if kind == "quniform" else "[low, high]"
    if not isinstance(value, list) or len(value) != names.count(",") + 1 or not all(map(_is_number, value)):
        raise ValueError(f"takes {names}, numbers")
    integers = all(isinstance(number, int) for number in value)
    if kind.endswith("randint") and not integers:
        raise ValueError("takes integers")
    if kind in ("uniform", "loguniform") or not integers:
        value = [float(number) for number in value]
    low, high = value[:2]
    if low >= high:
        raise ValueError(f"has low={low} and high={high}; low must be smaller")
    if kind.startswith("log") and low <= 0:
        raise ValueError(f"has low={low}; a logarithm needs low > 0")
    if kind != "quniform":
        return Range(kind, low, high)
    step = value[2]
    if step <= 0 or any(not math.isclose(end / step, round(end / step), abs_tol=1e-9) for end in (low, high)):
        raise ValueError(f"has step={step}; low and high must be multiples of a step > 0")
    return Range(kind, low, high, step)


def _choices(kind: str, value: Any, key: str, places: Mapping[str, str], taken: frozenset[str]) -> Choices:
    if not isinstance(value, list | dict):
        raise ValueError("takes a list of values, or a mapping from values to the parameters each brings")
    if not 1 <= len(value) <= MOST_VALUES:
        raise ValueError(f"has {len(value)} values; give 1 to {MOST_VALUES}")
    if isinstance(value, dict):
        branches = (
            parse_space({} if inner is None else inner, f"{key}.{name}", places, taken)
            for name, inner in value.items()
        )
        return Choices(kind, tuple(value), tuple(branches))
    if any(isinstance(item, dict) for item in value):
        raise ValueError("has a mapping in its list; search the fields of a section one by one")
    if len({(type(item), str(item)) for item in value}) < len(value):
        raise ValueError("names a value twice")
    return Choices(kind, tuple(value), ((),) * len(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

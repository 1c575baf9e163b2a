"""Who takes part in a comparison: algorithms with their grids, controls, seeds, and the terms they share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from fedrevive.settings.errors import UserError, shown

if TYPE_CHECKING:
    from fedrevive.results.comparison_folder import Entry
    from fedrevive.settings import ExperimentConfig

SHARED = (
    *("task", "model", "client.local_steps", "client.batch_size", "delays", "server.concurrency"),
    *("stop", "evaluation", "compute", "output", "snapshots", "name"),
)
"""What all competitors agree in: the problem, the work of a client, the delays, the budget and what is measured."""


_SEPARATOR = re.compile(r",(?![^\[{]*[\]}])")


@dataclass(frozen=True)
class Competitors:
    """What was asked for, in the order of the table's rows."""

    algorithms: tuple[str, ...]
    """`fedbuff:server.lr=0.02/0.05`: a name, overrides, and values `a/b/c` as a grid."""
    controls: tuple[str, ...]
    """Variants of one of the algorithms, without grids."""
    seeds: tuple[int, ...]
    place: str = "--"
    """What stands before `algorithms`, `controls` and `seeds` in errors."""


@dataclass(frozen=True)
class _Variant:
    """One row of the table."""

    label: str
    name: str
    points: tuple[tuple[str, ...], ...]
    """Overrides of each configuration, without the control's own."""
    shown: tuple[str, ...]
    """How each configuration is called: what varies in it."""
    own: tuple[str, ...] = ()
    """Overrides of a control."""
    follows: str = ""


def labels(text: str | None) -> tuple[str, ...]:
    """Parts of a comma-separated option; none without the option. Commas inside brackets belong to a value."""
    return tuple(part.strip() for part in _SEPARATOR.split(text)) if text is not None else ()


def seed_list(text: str) -> tuple[int, ...]:
    """Read `--seeds`.

    Raises:
        UserError: not distinct integers >= 0.
    """
    parts = labels(text)
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise UserError(f"--seeds: {shown(text)} is not a list of integers >= 0, such as 0,1,2")
    if len(set(map(int, parts))) < len(parts):
        raise UserError(f"--seeds: {shown(text)} names a seed twice")
    return tuple(int(part) for part in parts)


def competing(
    source: str | None, overrides: Sequence[str], competitors: Competitors, flags: dict[str, Any]
) -> list[Entry]:
    """Every run a comparison may consist of, checked.

    Args:
        source: preset or file.
        overrides: shared by all.
        competitors: who takes part.
        flags: dotted path -> value, from options.

    Raises:
        UserError: an unknown algorithm, a run named twice, unequal grids, terms that are not shared, or a control whose
            algorithm does not take part.
    """
    from fedrevive.results.comparison_folder import Entry
    from fedrevive.settings.identity import run_id
    from fedrevive.settings.loading import load

    place = competitors.place
    for path, option in (("seed", "seeds"), ("algorithm.name", "algorithms")):
        if any(override.startswith(f"{path}=") for override in overrides):
            raise UserError(f"{path}: a comparison takes it from {place}{option}")
    entries: list[Entry] = []
    names: dict[str, str] = {}
    for variant in _variants(competitors):
        for (point, called), seed in product(
            zip(variant.points, variant.shown, strict=True), competitors.seeds
        ):
            given = [*overrides, f"algorithm.name={variant.name}", *point, *variant.own, f"seed={seed}"]
            config = load(source, given, flags)
            entry = Entry(variant.label, config, run_id(config), called, variant.follows)
            if entry.run_id in names:
                raise UserError(
                    f"{place}algorithms: {names[entry.run_id]} and {variant.label} are the same run; name it once"
                )
            names[entry.run_id] = variant.label
            entries.append(entry)
            _require_shared(variant.label, config, entries[0].config, place)
    return entries


def _variants(competitors: Competitors) -> list[_Variant]:
    place = competitors.place
    algorithms = [_competitor(label, place) for label in competitors.algorithms]
    _require_equal_grids(algorithms, place)
    return algorithms + [_control(label, algorithms, place) for label in competitors.controls]


def _competitor(label: str, place: str) -> _Variant:
    from fedrevive.settings.loading import grid

    name, own = _read(label, f"{place}algorithms")
    points = tuple(grid(own))
    called = tuple(" ".join(given for given in point if given not in own) for point in points)
    return _Variant(label, name, points, called)


def _control(label: str, algorithms: Sequence[_Variant], place: str) -> _Variant:
    from fedrevive.settings.loading import grid

    name, own = _read(label, f"{place}controls")
    if len(grid(own)) > 1:
        raise UserError(
            f"{place}controls: {label} has a grid; a control takes the configuration of its algorithm"
        )
    base = [competitor for competitor in algorithms if competitor.name == name]
    if len(base) != 1:
        count = "several times" if base else "not"
        raise UserError(f"{place}controls: {name} is {count} among the algorithms; {label} needs exactly one")
    searched = {given.partition("=")[0] for point in base[0].shown for given in point.split()}
    if repeated := searched.intersection(given.partition("=")[0] for given in own):
        raise UserError(
            f"{place}controls: {label} sets {min(repeated)}, which the grid of {base[0].label} chooses; a control "
            "changes something else"
        )
    return _Variant(label, name, base[0].points, base[0].shown, own, base[0].label)


def _read(label: str, option: str) -> tuple[str, tuple[str, ...]]:
    """Name and overrides of a competitor or control."""
    from fedrevive.settings.loading import variant

    try:
        name, own = variant(label)
    except UserError as error:
        raise UserError(f"{option}: {error.message}") from None
    if any(override.startswith(("seed=", "algorithm.name=")) for override in own):
        raise UserError(f"{option}: {label} sets its seed or its name again; seeds are given for all")
    return name, own


def _require_equal_grids(algorithms: Sequence[_Variant], place: str) -> None:
    """A comparison with grids is fair only if every competitor may choose among equally many configurations."""
    first, *others = algorithms
    for other in others:
        if len(other.points) != len(first.points):
            raise UserError(
                f"{place}algorithms: {first.label} has {len(first.points)} configuration(s) and {other.label} has "
                f"{len(other.points)}; give every competitor a grid of equal size"
            )


def _require_shared(label: str, config: ExperimentConfig, first: ExperimentConfig, place: str) -> None:
    for path in SHARED:
        if attrgetter(path)(config) != attrgetter(path)(first):
            raise UserError(
                f"{place}algorithms: {label} changes {path}, which all competitors share; set it for all"
            )

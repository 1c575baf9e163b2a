"""Repetitions side by side, and what is said of them: medians, ranges, ratios within a repetition."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Number = float | None


@dataclass(frozen=True)
class Sample:
    """One measurement of one side."""

    cpu_ms: float
    """Processor time of every process that took part, per unit of work."""
    wall_ms: float
    """Real time per unit of work."""
    checksum: str = ""
    """Of the results; equal in every repetition."""
    more: Mapping[str, float] = field(default_factory=dict)
    """Further measurements by metric."""


@dataclass(frozen=True)
class Row:
    """One line of the result: a metric of a workload."""

    metric: str
    unit: str
    ours: float
    ours_min: float
    ours_max: float
    reference: Number
    ratio: Number
    """Above 1 is better than the reference."""
    ratio_min: Number
    ratio_max: Number
    repetitions: int
    checksum: str | None


Cases = Mapping[str, Callable[[], Sample]]


def interleaved(cases: Cases, repetitions: int) -> dict[str, list[Sample]]:
    """Measure every case once per repetition, in turn forwards and backwards, so that a drift hits all alike.

    Raises:
        RuntimeError: a case did not give the same results again.
    """
    taken: dict[str, list[Sample]] = {name: [] for name in cases}
    for repetition in range(repetitions):
        names = list(cases)
        for name in names if repetition % 2 == 0 else reversed(names):
            taken[name].append(cases[name]())
    for name, samples in taken.items():
        agreed(name, samples)
    return taken


def agreed(name: str, samples: Sequence[Sample]) -> str:
    """The checksum of all `samples`; RuntimeError when they differ."""
    found = {sample.checksum for sample in samples}
    if len(found) != 1:
        raise RuntimeError(f"bench: {name} gave {len(found)} different results in {len(samples)} repetitions")
    return found.pop()


def row(
    metric: str,
    unit: str,
    ours: Sequence[float],
    reference: Sequence[float] = (),
    *,
    more_is_better: bool = False,
    checksum: str | None = None,
) -> Row:
    """Median and range of a metric, and its ratio to the reference, taken repetition by repetition.

    Args:
        metric: what was measured.
        unit: of `ours` and `reference`.
        ours: one value per repetition.
        reference: likewise, in the same order; empty without one.
        more_is_better: the ratio is ours / reference; of costs it is reference / ours, so above 1 is better.
        checksum: of the results.

    Raises:
        ValueError: numbers of repetitions differ.
    """
    if reference and len(reference) != len(ours):
        raise ValueError(f"{metric}: {len(ours)} repetitions beside {len(reference)} of the reference")
    pairs = zip(ours, reference, strict=True) if reference else ()
    ratios = [own / other if more_is_better else other / own for own, other in pairs if own and other]
    return Row(
        metric=metric,
        unit=unit,
        ours=statistics.median(ours),
        ours_min=min(ours),
        ours_max=max(ours),
        reference=statistics.median(reference) if reference else None,
        ratio=statistics.median(ratios) if ratios else None,
        ratio_min=min(ratios) if ratios else None,
        ratio_max=max(ratios) if ratios else None,
        repetitions=len(ours),
        checksum=checksum or None,
    )


def further(samples: Sequence[Sample], units: Mapping[str, str]) -> list[Row]:
    """Rows of the further measurements named in `units`, metric -> unit, as far as the samples have them."""
    rows = []
    for metric, unit in units.items():
        values = [sample.more[metric] for sample in samples if metric in sample.more]
        if values:
            rows.append(row(metric, unit, values))
    return rows

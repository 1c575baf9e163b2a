"""Pictures: accuracy over virtual time, and the staleness a run will meet. PNG, 900 x 550 pixels, drawn off
screen. Each line has its own dash pattern and its own label at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedrevive.results.drawing import (
    DASHES,
    INK,
    MUTED,
    PALETTE,
    caption,
    headline,
    new_figure,
    note,
    plain_axes,
    save,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = tuple[ArrayLike, ArrayLike]
"""(virtual time units, test accuracy) of one run, equal lengths, times ascending."""

Series = tuple[NDArray[np.float64], NDArray[np.float64]]
Beta = Callable[[NDArray[np.int64]], NDArray[np.float64]]

_GRID_POINTS = 400


class _End(NamedTuple):
    x: float
    y: float
    label: str
    color: str


def accuracy_figure(
    curves: Mapping[str, Sequence[Curve]], target: float | None, title: str, path: Path
) -> None:
    """Draw test accuracy over virtual time: per label the mean over its runs, with their range as a band.

    Accuracies are drawn as measured: how much an asynchronous curve swings is part of what it says. A line ends
    where the label's shortest run ends.

    Args:
        curves: label -> one curve per seed, none of them empty; up to 7 labels differ in colour.
        target: accuracy to mark, or None.
        title: one line.
        path: PNG to write.

    Raises:
        UserError: exit code 5, `path` cannot be written.
    """
    figure, axes = _canvas(title)
    ends = []
    for index, (label, runs) in enumerate(curves.items()):
        color, dashes = PALETTE[index % len(PALETTE)], DASHES[index % len(DASHES)]
        measured = [(np.asarray(times, np.float64), np.asarray(values, np.float64)) for times, values in runs]
        times, values = _on_common_grid(measured)
        axes.fill_between(times, values.min(0), values.max(0), color=color, alpha=0.15, linewidth=0)
        axes.plot(times, values.mean(0), color=color, linewidth=2, linestyle=dashes)
        ends.append(_End(float(times[-1]), float(values[:, -1].mean()), label, color))
    if target is not None:
        _mark_target(axes, target)
    axes.set_xlabel("virtual time (units)")
    axes.set_ylabel("test accuracy")
    axes.set_xlim(0, max((end.x for end in ends), default=1.0) or 1.0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    _label_ends(axes, ends)
    caption(figure, _accuracy_caption(curves))
    save(figure, path)


def staleness_figure(staleness: ArrayLike, beta: Beta | None, path: Path) -> None:
    """Draw the distribution of staleness, with beta(tau) on a second axis.

    Args:
        staleness: one value per arrival, whole versions >= 0, at least one.
        beta: staleness [n] -> beta [n] in [0, 1], or None for algorithms without it.
        path: PNG to write.

    Raises:
        UserError: exit code 5, `path` cannot be written.
    """
    values = np.asarray(staleness, np.int64)
    figure, axes = _canvas("Staleness of the accepted updates")
    taus, text = draw_staleness(axes, values)
    if beta is not None:
        right = beta_axis(axes)
        right.set_ylabel(right.get_ylabel(), color=PALETTE[1])
        right.tick_params(colors=PALETTE[1])
        right.plot(taus, beta(taus), color=PALETTE[1], linewidth=2)
    caption(figure, text)
    save(figure, path)


def draw_staleness(axes: Axes, values: NDArray[np.int64]) -> tuple[NDArray[np.int64], str]:
    """Draw the share of arrivals per staleness as bars, with the mean; at most 60 bars.

    Returns:
        The whole versions that the axis covers, and a caption.
    """
    from matplotlib.ticker import MaxNLocator

    width = max(1, -(-(int(values.max()) + 1) // 60))
    starts = np.arange(0, int(values.max()) + 1, width)
    counts = np.bincount(values // width, minlength=starts.size)
    axes.bar(starts + (width - 1) / 2, counts / values.size, width * 0.92, color="#9DB7CE")
    mean = float(values.mean())
    axes.axvline(mean, color=INK, linewidth=1, linestyle=":")
    note(axes, f"mean {mean:.1f}", (mean, 1), (5, -12), ("data", "axes fraction"))
    right = max(float(starts[-1]) + width, 10.0)
    axes.set_xlim(-0.5, right - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("staleness τ (server versions)")
    axes.set_ylabel("share of arrivals")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    unit = "version" if width == 1 else "versions"
    return np.arange(int(right)), f"{values.size:,} arrivals; a bar covers {width} {unit}"


def beta_axis(axes: Axes) -> Axes:
    """A second vertical axis of `axes`, from 0 to 1, for beta(tau)."""
    right = axes.twinx()
    right.set_ylim(0, 1.08)  # room for the note on the mean above 1
    right.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    right.set_ylabel("β(τ), share of the distilled delta")
    right.tick_params(length=0)
    right.spines[:].set_visible(False)
    return right


def _canvas(title: str) -> tuple[Figure, Axes]:
    figure = new_figure(9, 5.5)
    axes = figure.add_subplot()
    plain_axes(axes)
    headline(axes, title)
    return figure, axes


def _on_common_grid(runs: Sequence[Series]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times [n] and accuracies [runs, n], interpolated where every run has values."""
    start, end = max(times[0] for times, _ in runs), min(times[-1] for times, _ in runs)
    grid = np.linspace(start, max(start, end), _GRID_POINTS)
    return grid, np.stack([np.interp(grid, times, values) for times, values in runs])


def _label_ends(axes: Axes, ends: Sequence[_End]) -> None:
    """Write each label beside the end of its line, moved apart so that no two overlap."""
    low, high = axes.get_ylim()
    gap = 0.045 * (high - low)
    ordered = sorted(ends, key=lambda end: end.y)
    places: list[float] = []
    for end in ordered:
        places.append(max(end.y, places[-1] + gap) if places else end.y)
    ceiling = high
    for index in reversed(range(len(places))):
        places[index] = min(places[index], ceiling)
        ceiling = places[index] - gap
    for end, place in zip(ordered, places, strict=True):
        note(axes, end.label, (1, place), (6, -4), ("axes fraction", "data"), color=end.color, weight="bold")
    axes.set_ylim(low, high)


def _mark_target(axes: Axes, target: float) -> None:
    axes.axhline(target, color=MUTED, linewidth=1, linestyle=":")
    note(axes, f"target {target:.0%}", (0, target), (4, 3), ("axes fraction", "data"), color=MUTED)


def _accuracy_caption(curves: Mapping[str, Sequence[Curve]]) -> str:
    counts = {len(runs) for runs in curves.values()}
    if counts <= {1}:
        return "one seed"
    seeds = str(max(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    return f"line: mean over {seeds} seeds; band: lowest to highest seed"

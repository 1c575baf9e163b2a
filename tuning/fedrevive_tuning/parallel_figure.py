"""Parallel coordinates: every trial is a line through its values, coloured by its score."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedrevive.results.drawing import INK, MUTED, PALETTE, caption, headline, new_figure, save
from fedrevive_tuning.figure_data import Axis, Objective, Trial, category_text, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

_ABSENT = -0.16
"""Height of the level for trials without a value, or without a score; values lie in [0, 1]."""
_CLOSEST = 0.07
"""Smallest distance of two tick labels."""
_SPREAD = 0.06
"""Height to which the lines through one level fan out."""
_WIDE = 8
"""Number of hyperparameters up to which the picture is 1000 pixels wide."""
_LABEL = 13
"""Characters in a line of an axis label."""


def parallel_figure(trials: Sequence[Trial], axes: Sequence[Axis], meaning: Objective, path: Path) -> None:
    """Draw one line per trial through its values on `axes` to its score; the best trial stands out.

    The better score is always the higher one.

    Raises:
        UserError: exit code 5, `path` cannot be written.
    """
    figure = new_figure(10 * max(1.0, len(axes) / _WIDE), 5.8)
    canvas = figure.add_subplot()
    ranked = meaning.ranked(trials)
    numbers = {trial.score for trial in ranked if trial.score is not None}
    scores = Axis("score", numbers=tuple(sorted(numbers)))
    headline(canvas, meaning.best_text(ranked) or "no trial has a score")
    heights = _heights(trials, axes, _score_heights(trials, scores, meaning), ranked)
    _draw_lines(canvas, trials, heights, ranked)
    for x, axis in enumerate(axes):
        _draw_axis(canvas, x, _ticks(axis))
        _draw_absent(canvas, x, heights[:, x], "none")
    _draw_scores(canvas, len(axes), scores, meaning)
    _draw_absent(canvas, len(axes), heights[:, -1], "failed")
    names = [*(wrapped(axis.label, _LABEL) for axis in axes), textwrap.fill(meaning.label, _LABEL)]
    canvas.set_xticks(range(len(names)), names, fontsize=9, color=INK)
    canvas.tick_params(length=0, pad=8)
    canvas.set_yticks([])
    canvas.spines[:].set_visible(False)
    canvas.set_xlim(-0.3, len(axes) + 0.3)
    canvas.set_ylim(float(heights.min(initial=0)) - 0.05, 1.05)
    caption(figure, _small_print(trials, heights))
    save(figure, path)


def _score_heights(trials: Sequence[Trial], scores: Axis, meaning: Objective) -> NDArray[np.float64]:
    """Height of every trial's score [trials], the better the higher; `_ABSENT` for failed trials."""
    places = [_ABSENT if trial.score is None else scores.place(trial.score) for trial in trials]
    heights = np.array(places, np.float64)
    return np.where(heights < 0, heights, 1 - heights) if meaning.smaller_is_better else heights


def _heights(
    trials: Sequence[Trial], axes: Sequence[Axis], scores: NDArray[np.float64], ranked: Sequence[Trial]
) -> NDArray[np.float64]:
    """Where every trial crosses every axis [trials, axes + 1]; in one category the better trials run higher."""
    order = {trial.number: -place for place, trial in enumerate(ranked)}
    worst = -len(trials)
    columns = []
    for axis in axes:
        levels = [trial.values[axis.path] for trial in trials]
        column = np.array([_ABSENT if value is None else axis.place(value) for value in levels], np.float64)
        for level in {*axis.categories, None}:
            members = [index for index, value in enumerate(levels) if value == level]
            members.sort(key=lambda index: order.get(trials[index].number, worst))
            if len(members) > 1:
                column[members] += np.linspace(-_SPREAD / 2, _SPREAD / 2, len(members))
        columns.append(column)
    return np.stack([*columns, scores], axis=1) if trials else np.zeros((0, len(axes) + 1))


def _draw_lines(
    canvas: Axes, trials: Sequence[Trial], heights: NDArray[np.float64], ranked: Sequence[Trial]
) -> None:
    colors, alpha = _colors(), min(0.85, max(0.2, 40 / max(1, len(trials))))
    xs = range(heights.shape[1])
    for trial, line in zip(trials, heights, strict=True):
        if trial.score is None:
            canvas.plot(xs, line, color=MUTED, linewidth=0.9, linestyle=":", alpha=alpha, zorder=1)
        elif trial is ranked[0]:
            canvas.plot(xs, line, color="white", linewidth=5, zorder=4)
            canvas.plot(xs, line, color=PALETTE[1], linewidth=2.8, zorder=5, marker="D", markersize=5)
        else:
            dashes = (0, (4, 2)) if trial.stopped else "-"
            color = colors(float(line[-1]))
            canvas.plot(
                xs, line, color=color, linewidth=1.3, alpha=alpha, linestyle=dashes, zorder=2 + line[-1]
            )


def _draw_axis(canvas: Axes, x: float, ticks: Sequence[tuple[float, str]]) -> None:
    canvas.plot([x, x], [0, 1], color="#888888", linewidth=1, zorder=3)
    for height, text in ticks:
        _tick(canvas, (x, height), text, -5)


def _draw_scores(canvas: Axes, x: float, scores: Axis, meaning: Objective) -> None:
    """The score's axis is the colour scale too."""
    if not scores.numbers:
        return
    gradient = np.linspace(0, 1, 128)[:, np.newaxis]
    end = x + 0.006 * (x + 0.6)
    canvas.imshow(gradient, cmap=_colors(), extent=(x, end, 0, 1), origin="lower", aspect="auto", zorder=3)
    for height, text in _ticks(scores):
        place = 1 - height if meaning.smaller_is_better and len(scores.numbers) > 1 else height
        number = float(text)
        _tick(canvas, (end, place), text if meaning.smaller_is_better else f"{100 * number:.3g} %", 5)


def _draw_absent(canvas: Axes, x: float, heights: NDArray[np.float64], text: str) -> None:
    if (heights < _ABSENT / 2).any():
        _tick(canvas, (x, _ABSENT), text, -5, MUTED)


def _tick(canvas: Axes, point: tuple[float, float], text: str, offset: float, color: str = INK) -> None:
    """Write `text` left (offset < 0) or right of `point`."""
    canvas.annotate(
        text,
        point,
        (offset, 0),
        textcoords="offset points",
        ha="right" if offset < 0 else "left",
        va="center",
        fontsize=8.5,
        color=color,
        bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8},
        zorder=6,
    )


def _ticks(axis: Axis) -> list[tuple[float, str]]:
    """Height and text of an axis's tick labels: every category, or the ends and round numbers between them."""
    if axis.categories:
        return [(axis.place(value), category_text(value)) for value in axis.categories]
    if not axis.numbers:
        return []
    ticks: list[tuple[float, str]] = []
    for number in [axis.numbers[0], axis.numbers[-1], *_between(axis)]:
        height = axis.place(number)
        if all(abs(height - other) >= _CLOSEST for other, _ in ticks):
            ticks.append((height, f"{number:.3g}"))
    return ticks


def _between(axis: Axis) -> list[float]:
    from matplotlib.ticker import LogLocator, MaxNLocator

    low, high = axis.numbers[0], axis.numbers[-1]
    if len(axis.numbers) <= 6:
        return list(axis.numbers)
    if axis.logarithmic:
        found = LogLocator(subs=(1, 2, 5)).tick_values(low, high)
    else:
        found = MaxNLocator(5, integer=axis.integer).tick_values(low, high)
    return [float(number) for number in found if low < number < high]


def _colors() -> Colormap:
    """Pale for the worst, dark for the best; without the palest end, which white paper swallows."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps["viridis_r"](np.linspace(0.08, 1, 256)))


def _small_print(trials: Sequence[Trial], heights: NDArray[np.float64]) -> str:
    parts = [f"{len(trials)} trial{'s' * (len(trials) > 1)}; the thick line is the best one"]
    if any(trial.stopped for trial in trials):
        parts.append("dashed: stopped early")
    if any(trial.score is None for trial in trials):
        parts.append("dotted: failed")
    if (heights[:, :-1] < _ABSENT / 2).any():
        parts.append("none: the trial has no such parameter")
    return "; ".join(parts)

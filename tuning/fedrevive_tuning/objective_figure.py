"""Score against each hyperparameter, one panel each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedrevive.results.drawing import INK, MUTED, PALETTE, caption, new_figure, plain_axes, save
from fedrevive_tuning.figure_data import Axis, Objective, Trial, category_text, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3
_STRIP = 0.3
"""Half the width of a category's strip; strips are 1 apart."""
_FEW = 5
"""Number of different whole numbers up to which each has its own tick label."""
_LOG_STEPS = ((50.0, (1.0, 2.0, 5.0)), (2000.0, (1.0, 3.0)))
"""Tick labels per decade for numbers that span less than so much."""
_BEST, _MEAN, _SEED = PALETTE[1], PALETTE[0], PALETTE[5]


def objective_figure(trials: Sequence[Trial], axes: Sequence[Axis], meaning: Objective, path: Path) -> None:
    """Draw the score of every trial over the values of each of `axes`; failed trials are crosses at the bottom.

    Raises:
        UserError: exit code 5, `path` cannot be written.
    """
    from matplotlib.ticker import PercentFormatter

    columns = min(_COLUMNS, len(axes))
    rows = -(-len(axes) // columns)
    figure = new_figure(10, 1.2 + rows * (4.3, 3.6, 3.0)[columns - 1])
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    ranked = meaning.ranked(trials)
    for place, panel in enumerate(panels.flat):
        if place >= len(axes):
            panel.set_visible(False)
            continue
        _panel(panel, trials, axes[place], ranked[0].number if ranked else None)
        if place % columns == 0:
            panel.set_ylabel(meaning.label)
            if not meaning.smaller_is_better:
                panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    if not ranked:
        panels[0, 0].set_ylim(0, 1)
        panels[0, 0].set_yticks([])
    _legend(figure, trials, meaning.best_text(ranked))
    caption(figure, f"{len(trials)} trials" if len(trials) > 1 else "1 trial")
    save(figure, path)


def _panel(panel: Axes, trials: Sequence[Trial], axis: Axis, best: int | None) -> None:
    plain_axes(panel)
    having = [trial for trial in trials if trial.values[axis.path] is not None]
    partly = len(having) < len(trials)
    title = wrapped(axis.label, 22 if partly else 30)
    panel.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    if partly:
        panel.set_title(f"in {len(having)} of {len(trials)} trials", loc="right", fontsize=8, color=MUTED)
    if not having:
        panel.set_xticks([])
        return
    _horizontal_scale(panel, axis)
    position = _positions(axis, having)
    for trial in having:
        x = position[trial.number]
        if trial.score is None:
            panel.plot(x, 0.025, "x", color=MUTED, markersize=5, transform=panel.get_xaxis_transform())
            continue
        if len(trial.objectives) > 1:
            panel.plot(
                [x] * len(trial.objectives),
                trial.objectives,
                "o",
                color=_SEED,
                alpha=0.6,
                markersize=3.5,
                mew=0,
            )
        color = _BEST if trial.number == best else _MEAN
        filled = "white" if trial.stopped else color
        size = 9 if trial.number == best else 6
        panel.plot(x, trial.score, "D" if trial.number == best else "o", color=color, mfc=filled, markersize=size,
                   mew=1.2, alpha=0.85, zorder=4 if trial.number == best else 3)  # fmt: skip


def _horizontal_scale(panel: Axes, axis: Axis) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    if axis.categories:
        names = [category_text(value) for value in axis.categories]
        crowded = sum(map(len, names)) + 2 * len(names) > 36
        panel.set_xticks(
            range(len(names)),
            names,
            fontsize=8.5,
            rotation=35 if crowded else 0,
            ha="right" if crowded else "center",
            rotation_mode="anchor",
        )
        panel.set_xlim(-0.6, len(names) - 0.4)
        return
    low, high = axis.numbers[0], axis.numbers[-1]
    if axis.logarithmic:
        margin = (high / low) ** 0.05
        panel.set_xscale("log")
        panel.set_xlim(low / margin, high * margin)
        steps = next((steps for span, steps in _LOG_STEPS if high < span * low), (1.0,))
        panel.xaxis.set_major_locator(LogLocator(subs=steps))
        panel.xaxis.set_minor_locator(NullLocator())
    else:
        margin = 0.05 * (high - low) or max(abs(low) * 0.5, 0.5)
        panel.set_xlim(low - margin, high + margin)
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=axis.integer))
    if len(axis.numbers) == 1 or (axis.integer and len(axis.numbers) <= _FEW):
        panel.set_xticks(axis.numbers)
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:.4g}")


def _positions(axis: Axis, trials: Sequence[Trial]) -> dict[int, float]:
    """Horizontal place of each trial; those of one category stand side by side, by number."""
    if not axis.categories:
        return {trial.number: float(trial.values[axis.path]) for trial in trials}  # type: ignore[arg-type]
    places: dict[int, float] = {}
    for index, category in enumerate(axis.categories):
        members = [trial.number for trial in trials if trial.values[axis.path] == category]
        spread = np.linspace(-_STRIP, _STRIP, len(members)) if len(members) > 1 else np.zeros(1)
        places |= dict(zip(members, (index + spread).tolist(), strict=True))
    return places


def _legend(figure: Figure, trials: Sequence[Trial], best: str | None) -> None:
    from matplotlib.lines import Line2D

    def mark(label: str, marker: str, color: str, size: float, fill: str | None = None) -> Line2D:
        return Line2D(
            [], [], linestyle="", marker=marker, color=color, mfc=fill or color, markersize=size, label=label
        )

    seeds = max((len(trial.objectives) for trial in trials), default=0)
    scored = [trial for trial in trials if trial.score is not None]
    marks = []
    if best:
        marks.append(mark(best, "D", _BEST, 8))
    if sum(not trial.stopped for trial in scored) > (seeds == 1):
        marks.append(mark(f"trial, mean of {seeds} seeds" if seeds > 1 else "trial, one seed", "o", _MEAN, 6))
    if seeds > 1:
        marks.append(mark("one seed", "o", _SEED, 4))
    if any(trial.stopped for trial in scored):
        marks.append(mark("stopped early", "o", _MEAN, 6, "white"))
    if len(scored) < len(trials):
        marks.append(mark("failed", "x", MUTED, 5))
    figure.legend(handles=marks, loc="outside upper left", ncols=len(marks), frameon=False, fontsize=9)

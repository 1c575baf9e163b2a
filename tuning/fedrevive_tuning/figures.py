"""Pictures of a search: score against each hyperparameter, parallel coordinates, β of the best families."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from fedrevive_tuning.beta_figure import beta_figure
from fedrevive_tuning.figure_data import Objective, axis_of, read_trials
from fedrevive_tuning.objective_figure import objective_figure
from fedrevive_tuning.parallel_figure import parallel_figure

OBJECTIVE, PARALLEL, BETA = "objective.png", "parallel.png", "beta.png"


def write_figures(trials: pa.Table, paths: Sequence[str], directory: Path, *, objective: str) -> list[Path]:
    """Draw what a search found, as PNG files 1000 pixels wide (`parallel.png` wider beyond 8 hyperparameters).

    Equal tables give equal bytes.

    Args:
        trials: one row per trial and seed, at least the columns trial, status, objective, score, run_id and `paths`.
        paths: searched dotted paths, in the order in which they are drawn; at least one. One that no trial has is
            left out.
        directory: the search's folder; `runs/<run_id>` below it gives staleness and β.
        objective: final_accuracy, auc (large is good) or time_to_target (small is good).

    Returns:
        The files written: `objective.png`, `parallel.png`, and `beta.png` if any scored run has a β.

    Raises:
        UserError: exit code 5, a picture cannot be written; 3, a run's folder is damaged.
    """
    points, meaning = read_trials(trials, paths), Objective(objective)
    axes = [axis_of(path, points) for path in paths]
    axes = [axis for axis in axes if axis.categories or axis.numbers] or axes[:1]
    objective_figure(points, axes, meaning, directory / OBJECTIVE)
    parallel_figure(points, axes, meaning, directory / PARALLEL)
    written = [directory / OBJECTIVE, directory / PARALLEL]
    if beta_figure(points, meaning, directory, directory / BETA):
        written.append(directory / BETA)
    return written

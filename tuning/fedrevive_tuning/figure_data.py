"""What the pictures of a search show: its trials, and how the values of a hyperparameter are laid out on an axis."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

Value = bool | int | float | str
DECADES = 10.0
"""A positive number whose largest value is at least so many times its smallest one gets a logarithmic axis. Ours."""

_OBJECTIVES = {
    "final_accuracy": "final validation accuracy",
    "auc": "mean validation accuracy over time",
    "time_to_target": "time to target (units; less is better)",
}


@dataclass(frozen=True)
class Trial:
    """One configuration with all its seeds."""

    number: int
    score: float | None
    """Mean over seeds; None for a failed trial."""
    stopped: bool
    """Whether the scheduler ended it early, so that its score is that of a shorter run."""
    objectives: tuple[float, ...]
    """One per seed that has one."""
    values: dict[str, Value | None]
    """Searched path -> value; None where the trial's β family does not have it."""
    run_ids: tuple[str, ...]
    never: int = 0
    """Seeds whose target was not reached."""

    @property
    def missed(self) -> bool:
        """Whether no seed reached the target."""
        return self.never > 0 and self.never == len(self.objectives)


@dataclass(frozen=True)
class Objective:
    """What a score means."""

    name: str

    @property
    def label(self) -> str:
        """For an axis."""
        return _OBJECTIVES.get(self.name, self.name)

    @property
    def smaller_is_better(self) -> bool:
        """Only times are to be small."""
        return self.name == "time_to_target"

    def text(self, score: float) -> str:
        """A score as words: 84.2 % or 12.31 units."""
        return f"{score:.2f} units" if self.smaller_is_better else f"{100 * score:.1f} %"

    def outcome(self, trial: Trial) -> str:
        """The score of a trial that has one, as words."""
        assert trial.score is not None
        if not trial.never:
            return self.text(trial.score)
        if trial.missed:
            return "never"
        return f"{self.text(trial.score)}, {trial.never} of {len(trial.objectives)} never"

    def ranked(self, trials: Sequence[Trial]) -> list[Trial]:
        """Trials with a score, best first; those that were stopped early come after all others."""

        def key(trial: Trial) -> tuple[bool, float, int]:
            score = math.inf if trial.score is None else trial.score
            return trial.stopped, score if self.smaller_is_better else -score, trial.number

        return sorted((trial for trial in trials if trial.score is not None), key=key)

    def best_text(self, ranked: Sequence[Trial]) -> str | None:
        """The first of `ranked` as words; None without any."""
        if not ranked or ranked[0].score is None:
            return None
        if ranked[0].missed:
            return "no trial reached the target"
        return f"best: trial {ranked[0].number}, {self.outcome(ranked[0])}"


@dataclass(frozen=True)
class Axis:
    """One hyperparameter: categories, or numbers from `low` to `high`."""

    path: str
    categories: tuple[Value, ...] = ()
    numbers: tuple[float, ...] = ()
    """Distinct ones, ascending."""
    integer: bool = False

    @property
    def label(self) -> str:
        """The dotted path without what is the same for nearly all."""
        short = self.path.removeprefix("algorithm.")
        return self.path if short == "name" else short

    @property
    def logarithmic(self) -> bool:
        """Whether the numbers span decades."""
        return bool(self.numbers) and 0 < self.numbers[0] * DECADES <= self.numbers[-1]

    def place(self, value: Value) -> float:
        """Height of `value` in [0, 1] from the lowest to the highest; 0.5 where there is only one."""
        if self.categories:
            last = len(self.categories) - 1
            return self.categories.index(value) / last if last else 0.5
        low, high, at = (self._scaled(float(number)) for number in (self.numbers[0], self.numbers[-1], value))
        return (at - low) / (high - low) if high > low else 0.5

    def _scaled(self, number: float) -> float:
        return math.log10(number) if self.logarithmic else number


def read_trials(table: pa.Table, paths: Sequence[str]) -> list[Trial]:
    """The trials of a search's table, by number, without those that are still running."""
    names = ("trial", "status", "objective", "objective_censored", "score", "run_id", *paths)
    groups: dict[int, list[dict[str, Any]]] = {}
    for row in table.select(list(dict.fromkeys(names))).to_pylist():
        if row["status"] != "running":
            groups.setdefault(row["trial"], []).append(row)
    return [_trial(number, groups[number], paths) for number in sorted(groups)]


def axis_of(path: str, trials: Sequence[Trial]) -> Axis:
    """The axis for the values that `path` takes in `trials`; without categories and numbers when it takes none."""
    values = {trial.values[path] for trial in trials} - {None}
    if any(isinstance(value, bool | str) for value in values):
        return Axis(path, categories=tuple(sorted(values, key=str)))  # type: ignore[arg-type]
    numbers = tuple(sorted(float(value) for value in values))  # type: ignore[arg-type]
    return Axis(path, numbers=numbers, integer=all(isinstance(value, int) for value in values))


def category_text(value: Value) -> str:
    """A category as the user wrote it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def wrapped(name: str, width: int) -> str:
    """`name` in lines of at most `width` characters where that is possible, broken after dots and underscores."""
    lines = [""]
    for piece in re.findall(r"[^._]*[._]|[^._]+", name):
        if lines[-1] and len(lines[-1] + piece) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)


def _trial(number: int, rows: Sequence[dict[str, Any]], paths: Sequence[str]) -> Trial:
    objectives = (row["objective"] for row in rows)
    return Trial(
        number=number,
        score=next((row["score"] for row in rows if _is_number(row["score"])), None),
        stopped=any(row["status"] == "stopped" for row in rows),
        objectives=tuple(value for value in objectives if _is_number(value)),
        values={path: None if _is_nan(rows[0][path]) else rows[0][path] for path in paths},
        run_ids=tuple(row["run_id"] for row in rows if row["run_id"] is not None),
        never=sum(bool(row["objective_censored"]) for row in rows),
    )


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)

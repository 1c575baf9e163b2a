"""What a search says: a line per trial while it runs, then the best configurations as a table, pictures or JSON."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

from fedrevive.settings.identity import scalar_text

if TYPE_CHECKING:
    import pyarrow as pa

    from fedrevive_tuning.figure_data import Objective, Trial
    from fedrevive_tuning.folder import TrialRecord
    from fedrevive_tuning.plan import Plan

SHOWN = 10
"""Configurations in the printed table."""


class SearchProgress:
    """One line on standard error for every trial that ends."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._done = plan.number - len(plan.missing())

    def __call__(self, record: TrialRecord) -> None:
        """Take note of a trial's end."""
        from fedrevive_tuning.figure_data import Objective
        from fedrevive_tuning.table import trial_rows

        self._done += 1
        rows = trial_rows(self._plan.folder, self._plan.manifest, record)
        outcome = f"{record.status}: {record.error}" if record.error else record.status
        if rows[0]["score"] is not None:
            never = all(row.get("objective_censored") for row in rows)
            outcome = (
                "target not reached"
                if never
                else Objective(self._plan.search.settings.objective).text(rows[0]["score"])
            )
        if record.status == "stopped":
            outcome += f", stopped at virtual time {min(row['virtual_time'] for row in rows):.2f}"
        line = f"[{self._done}/{self._plan.number}] trial {record.number}: {outcome}"
        print(line, file=sys.stderr, flush=True)


def conclude(plan: Plan, *, as_json: bool) -> None:
    """Write the table and the pictures of a search and say what came out."""
    from fedrevive.results.comparison_folder import seal, unseal
    from fedrevive_tuning.figure_data import Objective, read_trials
    from fedrevive_tuning.figures import write_figures
    from fedrevive_tuning.folder import TABLE
    from fedrevive_tuning.table import write_trials

    unseal(plan.folder.directory)
    table = write_trials(plan.folder.directory)
    paths = list(plan.manifest["columns"])
    objective = Objective(plan.search.settings.objective)
    ranked = objective.ranked(read_trials(table, paths))
    pictures = write_figures(table, paths, plan.folder.directory, objective=objective.name)
    seal(plan.folder.directory, (TABLE, *(path.name for path in pictures)))
    if as_json:
        best = _best(plan, ranked[0]) if ranked and not ranked[0].missed else None
        print(
            json.dumps(
                {"dir": str(plan.folder.directory), "trials": plan.number, **_counts(table), "best": best}
            )
        )
        return
    _show(plan, table, ranked, objective)
    for path in (plan.folder.directory / TABLE, *pictures):
        print(path)


def _counts(table: pa.Table) -> dict[str, int]:
    trials = {row["trial"]: row["status"] for row in table.select(["trial", "status"]).to_pylist()}
    return {status: list(trials.values()).count(status) for status in ("complete", "stopped", "failed")}


def _best(plan: Plan, trial: Trial) -> dict[str, Any]:
    """The best trial, with a command that runs its first seed again."""
    record = plan.folder.record(trial.number)
    assert record is not None
    search = plan.search
    settings = {setting.path: setting.value for setting in search.overrides} | record.values
    words = [f"{path}={scalar_text(value)}" for path, value in settings.items()]
    command = ["fedrevive", "run", search.experiment, *words, f"seed={search.settings.seeds[0]}"]
    return {
        "trial": trial.number,
        "objective": search.settings.objective,
        "score": trial.score,
        "values": record.values,
        "seeds": list(search.settings.seeds),
        "run_ids": list(record.run_ids),
        "command": shlex.join(command),
    }


def _show(plan: Plan, table: pa.Table, ranked: list[Trial], objective: Objective) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    counts = ", ".join(f"{number} {status}" for status, number in _counts(table).items() if number)
    seeds = len(plan.search.settings.seeds)
    over = f"mean over {seeds} seeds ± 95 % interval" if seeds > 1 else "one seed"
    notes = [f"{plan.number} trials: {counts}. Score: {objective.label}, {over}."]
    if plan.search.settings.scheduler.kind == "asha":
        notes.append(
            "Trials that asha stopped stand last. It does not survive a resume: it may then stop other trials."
        )
    printed = Table(
        title=f"Best of {plan.number} configurations", caption="\n".join(notes), box=box.SIMPLE_HEAD
    )
    printed.caption_justify = "left"
    for name in ("trial", "score", "test accuracy", "configuration"):
        printed.add_column(name, justify="left" if name == "configuration" else "right", no_wrap=False)
    accuracies, reached = _accuracies(table), _virtual_times(table)
    for trial in ranked[:SHOWN]:
        printed.add_row(
            f"{trial.number}{f' (stopped at {reached[trial.number]:.2f})' if trial.stopped else ''}",
            _interval(trial, objective),
            accuracies.get(trial.number, "-"),
            _configuration(trial),
        )
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=110)
    console.print(printed)
    if ranked and ranked[0].missed:
        console.print("no configuration reached the target")
    elif ranked:
        console.print(f"the best again: {_best(plan, ranked[0])['command']}", soft_wrap=True, highlight=False)


def _interval(trial: Trial, objective: Objective) -> str:
    from fedrevive.results.statistics import mean_interval

    mean, low, high = mean_interval(trial.objectives)
    if low != low or trial.never:  # one seed has no interval, and twice a whole run is no measurement
        return objective.outcome(trial)
    scale = 1 if objective.smaller_is_better else 100
    return f"{objective.text(mean)} ± {scale * (high - low) / 2:.1f}"


def _accuracies(table: pa.Table) -> dict[int, str]:
    """Mean final test accuracy by trial."""
    values: dict[int, list[float]] = {}
    for row in table.select(["trial", "final_accuracy"]).to_pylist():
        if row["final_accuracy"] is not None:
            values.setdefault(row["trial"], []).append(row["final_accuracy"])
    return {trial: f"{100 * sum(found) / len(found):.1f} %" for trial, found in values.items()}


def _virtual_times(table: pa.Table) -> dict[int, float]:
    """Virtual time that every seed of a trial reached."""
    values: dict[int, float] = {}
    for row in table.select(["trial", "virtual_time"]).to_pylist():
        if row["virtual_time"] is not None:
            values[row["trial"]] = min(row["virtual_time"], values.get(row["trial"], row["virtual_time"]))
    return values


def _configuration(trial: Trial) -> str:
    """Searched values, short: the last word of each path."""
    given = {path: value for path, value in trial.values.items() if value is not None}
    return ", ".join(
        f"{path.removeprefix('algorithm.')}={f'{value:.4g}' if isinstance(value, float) else value}"
        for path, value in given.items()
    )

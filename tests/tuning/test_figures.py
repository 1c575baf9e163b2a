"""The pictures of a search: drawn for every kind of table, the same every time, and true to it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from fedrevive.results.manifest import read_manifest
from fedrevive_tuning.figure_data import Axis, Objective, Trial, axis_of, read_trials, wrapped
from fedrevive_tuning.figures import write_figures

FIXED = {
    "trial": pa.int64(),
    "seed": pa.int64(),
    "status": pa.string(),
    "objective": pa.float64(),
    "objective_censored": pa.bool_(),
    "score": pa.float64(),
    "run_id": pa.string(),
}
FAMILIES = ("one_minus_cosine", "exponential", "running_quantile")
PATHS = {
    "algorithm.teacher_capacity": pa.int64(),
    "server.lr": pa.float64(),
    "algorithm.beta.family": pa.string(),
    "algorithm.beta.rate": pa.float64(),
    "algorithm.diagnostics": pa.bool_(),
    "algorithm.a_name_that_is_far_too_long_for_any_axis": pa.float64(),
}


def row(trial: int, seed: int = 0, status: str = "complete", **values: object) -> dict:
    family = FAMILIES[trial % 3]
    objective = None if status == "failed" else 0.6 + 0.3 * ((7 * trial + seed) % 11) / 11
    return {
        "trial": trial,
        "seed": seed,
        "status": status,
        "objective": objective,
        "objective_censored": None,
        "score": objective,
        "run_id": f"absent{trial}",
        "algorithm.teacher_capacity": 1 + trial % 8,
        "server.lr": 10 ** (-3 + trial % 4),
        "algorithm.beta.family": family,
        "algorithm.beta.rate": 0.01 * (trial + 1) if family == "exponential" else None,
        "algorithm.diagnostics": trial % 2 == 0,
        "algorithm.a_name_that_is_far_too_long_for_any_axis": 0.5,
        **values,
    }


def table(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=pa.schema({**FIXED, **PATHS}))


def pixels(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


TABLES = {
    "one trial": [row(0)],
    "all failed": [row(n, status="failed") for n in range(3)],
    "all stopped": [row(n, status="stopped") for n in range(3)],
    "equal scores": [row(n, score=0.5, objective=0.5) for n in range(3)],
    "sixty trials": [
        row(n, seed, status=("complete", "complete", "stopped", "failed")[n % 4])
        for n in range(60)
        for seed in range(3)
    ],
    "nothing set": [row(n, **dict.fromkeys(PATHS)) for n in range(2)],
    "not a number": [
        row(0, **{"server.lr": float("nan")}),
        row(1, score=float("nan"), objective=float("nan")),
    ],
}


@pytest.mark.parametrize("name", TABLES)
def test_every_table_gives_the_same_picture_twice(name, tmp_path):
    objective = "time_to_target" if name in ("all stopped", "nothing set") else "final_accuracy"
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        written = write_figures(table(TABLES[name]), list(PATHS), tmp_path / folder, objective=objective)
        assert [path.name for path in written] == ["objective.png", "parallel.png"]
    for path in written:
        assert pixels(path)[0] == 1000
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()


def test_every_value_and_score_leaves_its_trace(tmp_path):
    rows = [row(n) for n in range(4)]
    write_figures(table(rows), list(PATHS), tmp_path, objective="auc")
    before = [(tmp_path / name).read_bytes() for name in ("objective.png", "parallel.png")]
    for change in (
        {"server.lr": 0.03},
        {"score": 0.75},
        {"status": "stopped"},
        {"algorithm.diagnostics": None},
    ):
        write_figures(table([{**rows[0], **change}, *rows[1:]]), list(PATHS), tmp_path, objective="auc")
        after = [(tmp_path / name).read_bytes() for name in ("objective.png", "parallel.png")]
        assert all(old != new for old, new in zip(before, after, strict=True)), change


def test_the_best_trial_is_a_complete_one_in_the_right_direction():
    rows = [
        row(0, score=0.5),
        row(1, score=0.7),
        row(2, score=0.9, status="stopped"),
        row(3, status="failed"),
    ]
    trials = read_trials(table(rows), list(PATHS))
    assert [trial.number for trial in Objective("auc").ranked(trials)] == [1, 0, 2]
    assert [trial.number for trial in Objective("time_to_target").ranked(trials)] == [0, 1, 2]


def test_seeds_of_a_trial_are_one_point_with_its_score():
    rows = [row(4, seed, objective=0.1 * seed, score=0.2) for seed in (1, 2, 3)]
    (trial,) = read_trials(table(rows), list(PATHS))
    assert (trial.score, trial.objectives) == (0.2, pytest.approx((0.1, 0.2, 0.3)))
    assert trial.values["algorithm.beta.family"] == "exponential"


def test_axes_follow_the_values():
    trials = read_trials(table([row(n) for n in range(12)]), list(PATHS))
    rate, lr, capacity, family, flag = (
        axis_of(path, trials)
        for path in (
            "algorithm.beta.rate",
            "server.lr",
            "algorithm.teacher_capacity",
            "algorithm.beta.family",
            "algorithm.diagnostics",
        )
    )
    assert lr.logarithmic
    assert [lr.place(10.0**exponent) for exponent in (-3, -1, 0)] == pytest.approx([0, 2 / 3, 1])
    assert (capacity.logarithmic, capacity.integer, capacity.place(8)) == (False, True, 1)
    assert [family.place(name) for name in sorted(FAMILIES)] == [0, 0.5, 1]
    assert (flag.place(False), flag.place(True)) == (0, 1)
    assert len(rate.numbers) == 4
    assert Axis("server.lr", numbers=(3.0,)).place(3.0) == 0.5
    assert [Axis(path).label for path in ("algorithm.beta.rate", "server.lr", "algorithm.name")] == [
        "beta.rate",
        "server.lr",
        "algorithm.name",
    ]
    assert wrapped("generate_every_versions", 13) == "generate_\nevery_\nversions"


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> tuple[Path, list[dict]]:
    """Real runs of two β families and of an algorithm without β, as the trials of a search."""
    folder = tmp_path_factory.mktemp("searched")
    variants = "fedrevive:beta.family=stepwise,fedrevive:beta.family=running_quantile,fedbuff"
    small = ["task.clients=24", "server.concurrency=6", "client.local_steps=1", "stop.arrivals=30"]
    words = ["compare", "digits", *small, "--executor", "inline", "--seeds", "0", "--algorithms", variants]
    command = [sys.executable, "-m", "fedrevive", *words, "--output", "out", "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout.splitlines()[-1])["rows"]) == 3
    entries = read_manifest(folder / "out")["entries"]
    family = "algorithm.beta.family"
    return folder / "out", [
        row(n, run_id=entry["run_id"], **{family: entry["config"]["algorithm"].get("beta", {}).get("family")})
        for n, entry in enumerate(entries)
    ]


def test_beta_of_the_best_trial_of_each_family(searched, tmp_path):
    folder, rows = searched
    names = ["objective.png", "parallel.png", "beta.png"]
    written = write_figures(table(rows), list(PATHS), folder, objective="auc")
    assert [path.name for path in written] == names
    both = written[-1].read_bytes()
    assert pixels(written[-1]) == (1000, 550)
    write_figures(table(rows), list(PATHS), folder, objective="auc")
    assert written[-1].read_bytes() == both
    write_figures(table(rows[:1]), list(PATHS), folder, objective="auc")
    assert written[-1].read_bytes() != both


def test_no_beta_no_picture(searched):
    folder, rows = searched
    assert len(write_figures(table(rows[2:]), list(PATHS), folder, objective="auc")) == 2


def test_what_never_reached_the_target_is_no_best():
    meaning = Objective("time_to_target")
    half = Trial(0, 3.0, stopped=False, objectives=(2.0, 4.0), values={}, run_ids=(), never=1)
    never = Trial(1, 4.0, stopped=False, objectives=(4.0, 4.0), values={}, run_ids=(), never=2)
    assert [meaning.outcome(trial) for trial in (half, never)] == ["3.00 units, 1 of 2 never", "never"]
    assert meaning.best_text([half, never]) == "best: trial 0, 3.00 units, 1 of 2 never"
    assert meaning.best_text([never]) == "no trial reached the target"

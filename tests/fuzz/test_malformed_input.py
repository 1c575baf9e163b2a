"""Whatever is wrong with a file, an option or an override: one line, exit code 2, nothing made, at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bad_values import bad_texts, is_path, path_texts
from malformed import experiment_fields, malformed
from verdict import Case, Outcome, complaints, judged, listing, written

from fedrevive.settings import ExperimentConfig
from fedrevive.settings import loading as loading_module
from fedrevive.settings.errors import UserError
from fedrevive_tuning import definition as definition_module

LEGAL = {
    "file: mutated bytes": "a file with a few bytes changed may be another legal file",
    "file: cut off": "a file may be whole where it ends, and a shorter word may be another legal value",
}
"""Families of which some inputs may be accepted, and why; of all others every single one must be refused."""
MOST_LEGAL = 0.1
"""Share of such a family."""
HEAVY = ("torch", "ray", "sklearn")


def failures(outcome: Outcome) -> list[str]:
    """What a run of the fuzz fails for."""
    legal = [f"{case} is accepted" for case in outcome.legal if case.family not in LEGAL]
    for family in LEGAL:
        accepted = sum(case.family == family for case in outcome.legal)
        if accepted > MOST_LEGAL * outcome.families.get(family, 0):
            legal.append(f"{accepted} of [{family}] are accepted")
    return legal[:20] + outcome.wrong[:20]


def report(outcome: Outcome) -> str:
    counted = sum(outcome.families.values())
    return (
        f"{counted} malformed inputs: {outcome.refused} refused in one line, {len(outcome.legal)} legal after all, "
        f"{len(outcome.wrong)} wrong; slowest {outcome.slowest:.2f} s"
    )


def test_5000_malformed_inputs_are_refused_in_one_line(workplace):
    outcome = judged(malformed(seed=0, count=5_000), workplace)
    print(report(outcome))
    assert failures(outcome) == []
    assert outcome.refused + len(outcome.legal) == 5_000


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_20000_more_are_refused_in_one_line(workplace, seed):
    outcome = judged(malformed(seed, count=5_000), workplace)
    print(report(outcome))
    assert failures(outcome) == []


def test_a_seed_is_one_list_and_three_reach_every_field_and_command():
    cases = malformed(seed=0, count=5_000)
    assert [str(case) for case in malformed(seed=0, count=200)] == [str(case) for case in cases[:200]]
    assert len({(case.words, case.files) for case in cases}) == 5_000
    assert min(Counter(case.family for case in cases).values()) >= 5
    for command in (
        "run",
        "compare",
        "study",
        "tune",
        "resume",
        "fsck",
        "export",
        "diagnose",
        "plan",
        "config",
    ):
        assert any(command in case.words for case in cases), command
    more = [case for seed in (1, 2) for case in malformed(seed, count=5_000)]
    touched = {name for case in cases + more if case.family.startswith("value") for name in case.names}
    assert {field.path for field in experiment_fields()} - touched == set()


def test_whatever_a_path_field_declares_it_refuses_long_and_unprintable_values(workplace):
    """Found by their names: a field that declares no bound gives the fuzz none to go beyond."""
    paths = [field for field in experiment_fields() if is_path(field.path)]
    assert {"output", "task.data_dir"} <= {field.path for field in paths}
    assert sum(field.path == "task.data_dir" for field in paths) >= 2  # of each task that has one
    cases = [
        Case("value: path", ("run", "stop.arrivals=3", *chosen, f"{field.path}={text}"), (field.path,))
        for field in paths
        for chosen in [[f"{at}={kind}" for at, kind in field.needs]]
        for text in path_texts()
    ]
    assert failures(judged(cases, workplace)) == []
    unbounded = {"type": "string", "minLength": 1}
    assert set(path_texts()) <= set(bad_texts("task.data_dir", unbounded))
    assert not set(path_texts()) <= set(bad_texts("task.name", unbounded))


def lenient(values, places, root, under=""):
    try:
        return root.model_validate(values)
    except ValueError:
        return ExperimentConfig.model_validate({"stop": {"arrivals": 1}})


def without_bounds(values, places, root, under=""):
    if root is ExperimentConfig:
        values = {**values, "server": {}, "delays": {"kind": "constant"}}
    return root.model_validate(values)


def careless(values, places, root, under=""):
    try:
        return root.model_validate(values)
    except ValueError as error:
        raise UserError("something is wrong") from error


def leaving_a_trace(values, places, root, under=""):
    Path("trace").write_text("x")
    raise UserError("server: no")


@pytest.mark.parametrize(
    ("planted", "expected"),
    [
        (lenient, "is accepted"),
        (without_bounds, "exit code 1"),
        (careless, "names none of"),
        (leaving_a_trace, "left something on disk"),
    ],
)
def test_the_fuzz_sees_a_planted_fault(workplace, monkeypatch, planted, expected):
    monkeypatch.setattr(loading_module, "validated", planted)
    monkeypatch.setattr(definition_module, "validated", planted)
    found = failures(judged(malformed(seed=0, count=300), workplace))
    assert any(expected in failure for failure in found), found[:3]


def test_the_judge_sees_every_kind_of_bad_answer():
    case = Case("x", ("run",), ("server.lr",))
    assert list(complaints(case, 2, "", "error: server.lr: bad\n")) == []
    assert list(complaints(case, 1, "", "error: server.lr\n")) == ["exit code 1"]
    assert list(complaints(case, 2, "x", "error: server.lr\n")) == ["something on standard output"]
    assert list(complaints(case, 2, "", "error: server.lr\nmore\n")) == ["not one printable ASCII line"]
    assert list(complaints(case, 2, "", "error: server.lr \u00e9\n")) == ["not one printable ASCII line"]
    assert list(complaints(case, 2, "", "server.lr\n")) == ["no error line"]
    assert list(complaints(case, 2, "", f"error: server.lr{'x' * 300}\n")) == ["316 characters"]
    assert list(complaints(case, 2, "", "error: server\n")) == ["names none of ('server.lr',)"]


def sample(count: int) -> list[Case]:
    """Cases of as many families as there are, that a process can be given (no NUL in a word)."""
    chosen: dict[str, list[Case]] = {}
    for case in malformed(seed=0, count=5_000):
        if case.family not in ("file: mutated bytes", "file: cut off") and not any(
            "\0" in word for word in case.words
        ):
            chosen.setdefault(case.family, []).append(case)
    by_turns = [cases[turn] for turn in range(2) for cases in chosen.values() if len(cases) > turn]
    return by_turns[:count]


def answered(case: Case, folder: Path) -> list[str]:
    """What is wrong with the answer of the real command, which also tells which modules it imported."""
    folder.mkdir(parents=True)
    words = [os.fsencode(word) for word in case.words]
    with written(case, folder):
        before = listing(folder)
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "fedrevive", *words],
            cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        left = listing(folder) != before
    lines = done.stderr.splitlines(keepends=True)
    imported = {
        line.rpartition("|")[2].strip().partition(".")[0] for line in lines if line.startswith("import time:")
    }
    assert "fedrevive" in imported
    said = "".join(line for line in lines if not line.startswith("import time:"))
    problems = list(complaints(case, done.returncode, done.stdout, said))
    problems += [f"imported {name}" for name in HEAVY if name in imported]
    problems += ["left something on disk"] if left else []
    return [f"{problem}: {case} -> {said!r}" for problem in problems]


def test_a_sample_through_the_real_command(tmp_path):
    cases = sample(44)
    with ThreadPoolExecutor(2) as side_by_side:
        found = list(
            side_by_side.map(answered, cases, [tmp_path / str(n) / "work" for n in range(len(cases))])
        )
    assert len(cases) >= 40
    assert len({case.words[0] for case in cases}) >= 5
    assert [problem for problems in found for problem in problems] == []

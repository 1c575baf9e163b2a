"""With each planted bug switched on, at least one of its tests fails; the list and the score are printed."""

from __future__ import annotations

import re
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import crash_victim
import planted_bugs
import pytest
from planted_bugs import BUGS

TESTS_FAILED = 1
QUICK = (4, 8, 19)
"""Of the quick tier: dropped state, a wrong base, a lost sync."""


def codes(numbers: list[int], folder: Path) -> dict[int | None, int]:
    """pytest's exit code per bug, two at a time; under None that of all their tests without a bug."""
    waiting: list[int | None] = [None, *numbers]
    running: dict[int | None, ForkServerProcess] = {}
    found: dict[int | None, int] = {}
    while waiting or running:
        while waiting and len(running) < 2:
            number = waiting.pop(0)
            tested, output = (numbers if number is None else [number]), str(folder / f"{number}.txt")
            running[number] = crash_victim.forked(planted_bugs.trial, tested, output, number is not None)
        for number, process in list(running.items()):
            code = crash_victim.exit_code(process)
            if code is not None:
                found[number] = code
                del running[number]
        time.sleep(0.01)
    return found


def outcome(code: int, output: str) -> str:
    """What became of one bug: a plant that does not fit the code any more fails every test, but catches nothing."""
    if re.search(r"planted_bugs\.py:\d+: \w+Error|TypeError: .*argument", output):
        return "BROKEN"
    return {TESTS_FAILED: "caught", 0: "MISSED"}.get(code, f"code {code}")


def caught(numbers: list[int], folder: Path, capsys: pytest.CaptureFixture[str]) -> int:
    """Print the list; the number of bugs that a test noticed."""
    found = codes(numbers, folder)
    assert found[None] == 0, (folder / "None.txt").read_text()
    outcomes = {number: outcome(found[number], (folder / f"{number}.txt").read_text()) for number in numbers}
    score = list(outcomes.values()).count("caught")
    with capsys.disabled():
        print()
        for number, word in outcomes.items():
            print(f"{word:8}{BUGS[number].name}  ({', '.join(BUGS[number].tests)})")
        print(f"score: {score} of {len(numbers)} planted bugs caught")
    return score


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("E   assert 1 == 2\ntests/crash/test_x.py:3: AssertionError", "caught"),
        ("E   TypeError: resume() takes 4 positional arguments but 5 were given", "BROKEN"),
        ("tests/crash/planted_bugs.py:44: AttributeError", "BROKEN"),
    ],
)
def test_a_plant_that_does_not_fit_is_not_taken_for_a_caught_bug(line, word):
    assert outcome(TESTS_FAILED, line) == word


def test_a_few_planted_bugs_are_caught(fork_server, tmp_path, capsys):
    assert caught(list(QUICK), tmp_path, capsys) == len(QUICK)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_planted_bug_is_caught(fork_server, tmp_path, capsys):
    assert len(BUGS) >= 15
    assert caught(list(range(len(BUGS))), tmp_path, capsys) == len(BUGS)

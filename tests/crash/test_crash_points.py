"""Death at every file operation of a run, once and several times over, also while it recovers."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import crash_victim
import pytest
from crash_victim import SMALL, Fault
from uninterrupted import hashes, listing

from fedrevive.results.files import is_temporary
from fedrevive.results.fsck import check_folder

QUICK_POINTS, QUICK_SEQUENCES, SEQUENCES = 8, 2, 60
LONGEST = 4
"""Deaths in one sequence."""


def hashes_and_files(directory: Path) -> tuple[dict[str, str], list[str]]:
    return hashes(directory), listing(directory)


def died(folder: Path, at: int) -> bool:
    """Start or go on with the run and let it die at one operation; False when it ended before."""
    resumable = (folder / "out" / "manifest.json").exists()
    words = ["resume", "out"] if resumable else [*SMALL, "--output", "out"]
    done = crash_victim.command(words, folder, Fault(at))
    assert done.died or done.code == 0, done.stderr
    return done.died


def assert_consistent(directory: Path) -> None:
    """What a crash leaves is a whole number of commits, without damage."""
    if (directory / "manifest.json").exists():
        assert [str(problem) for problem in check_folder(directory).problems] == []


def assert_ends_as(reference, folder: Path) -> None:
    directory = folder / "out"
    words = ["resume", "out"] if (directory / "manifest.json").exists() else [*SMALL, "--output", "out"]
    done = crash_victim.command(words, folder)
    assert done.code == 0, done.stderr
    assert hashes_and_files(directory) == (reference.hashes, reference.listing)
    report = check_folder(directory)
    assert (report.problems, report.notes) == ([], [])


def survives(reference, folder: Path, points: list[int]) -> int:
    """Number of deaths before the run ended as it would have without them."""
    deaths = 0
    for point in points:
        if not died(folder, point):
            break
        deaths += 1
        assert_consistent(folder / "out")
    assert_ends_as(reference, folder)
    return deaths


def all_survive(reference, tmp_path: Path, sequences: list[list[int]]) -> int:
    def one(points: list[int]) -> int:
        folder = tmp_path / "-".join(map(str, points))
        try:
            return survives(reference, folder, points)
        except AssertionError as error:
            raise AssertionError(f"deaths at operations {points}: {error}") from error

    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(one, sequences))


def test_no_operation_on_a_file_escapes_the_enumeration(reference):
    counted = {name: reference.operations.count(name) for name in reference.audited}
    assert counted == reference.audited
    assert reference.threads == 1  # of the fork server: it may be forked
    assert len(reference.operations) > 200


def test_a_sample_of_crash_points(reference, tmp_path):
    count = len(reference.operations)
    points = random.Random(0).sample(range(1, count + 1), QUICK_POINTS)
    assert all_survive(reference, tmp_path, [[point] for point in points]) == QUICK_POINTS


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_crash_point(reference, tmp_path):
    count = len(reference.operations)
    assert all_survive(reference, tmp_path, [[point] for point in range(1, count + 1)]) == count


def sequences(count: int, operations: int) -> list[list[int]]:
    """Up to four deaths: the first anywhere, the later ones early, where recovery takes place, or anywhere."""
    draws = random.Random(1)
    return [
        [draws.randint(1, operations), *(draws.choice([draws.randint(1, 30), draws.randint(1, operations)])
                                        for _ in range(draws.randint(1, LONGEST - 1)))]
        for _ in range(count)
    ]  # fmt: skip


def test_a_sample_of_repeated_deaths(reference, tmp_path):
    drawn = sequences(QUICK_SEQUENCES, len(reference.operations))
    assert all_survive(reference, tmp_path, drawn) > len(drawn)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_repeated_deaths_also_during_recovery(reference, tmp_path):
    drawn = sequences(SEQUENCES, len(reference.operations))
    assert all_survive(reference, tmp_path, drawn) > 1.5 * len(drawn)


def test_what_an_interrupted_write_leaves_is_removed_at_every_start(reference, tmp_path):
    """A death before the first snapshot leaves temporary files that no commit ever names."""
    write = reference.operations.index("write", reference.operations.index("pwrite") + 8) + 1
    assert died(tmp_path, write)
    left = [path for path in (tmp_path / "out").rglob(".*") if is_temporary(path.name)]
    assert left
    assert_ends_as(reference, tmp_path)

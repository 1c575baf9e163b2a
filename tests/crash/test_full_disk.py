"""A disk that refuses: one line, exit code 5, the last commit intact, and the run goes on once there is room."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import crash_victim
import pytest
from crash_victim import CREATES, SMALL, Fault
from uninterrupted import Reference, hashes, listing

from fedrevive.results.files import is_temporary
from fedrevive.results.fsck import check_folder

WORDS = [*SMALL, "--output", "out"]
QUICK_POINTS = 6
ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def assert_refused(done: crash_victim.Ended, directory: Path) -> None:
    assert done.code == 5, done.stderr
    assert [line[:7] for line in done.stderr.splitlines() if not line.startswith(("t=", "starting"))] == [
        "error: "
    ]
    if (directory / "manifest.json").exists():
        assert check_folder(directory).problems == []


def survives(reference: Reference, folder: Path, at: int) -> None:
    error = ERRORS[at % len(ERRORS)]
    done = crash_victim.command(WORDS, folder, Fault(at, error))
    assert_refused(done, folder / "out")
    assert os.strerror(error) in done.stderr
    assert not [path for path in (folder / "out").rglob("*") if is_temporary(path.name)]
    done = crash_victim.command(WORDS, folder)
    assert done.code == 0, done.stderr
    assert (hashes(folder / "out"), listing(folder / "out")) == (reference.hashes, reference.listing)


def all_survive(reference: Reference, tmp_path: Path, points: list[int]) -> None:
    def one(at: int) -> None:
        try:
            survives(reference, tmp_path / str(at), at)
        except AssertionError as error:
            raise AssertionError(f"no room from operation {at} on: {error}") from error

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, points))


def refusable(reference: Reference) -> list[int]:
    return [n for n, name in enumerate(reference.operations, start=1) if name in CREATES]


def test_no_room_at_some_operations(reference, tmp_path):
    points = random.Random(3).sample(refusable(reference), QUICK_POINTS)
    all_survive(reference, tmp_path, points)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_room_from_any_operation_on(reference, tmp_path):
    all_survive(reference, tmp_path, refusable(reference))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_disk_that_is_really_full(reference, small_disk, tmp_path):
    """Room is given in steps, so that the disk fills up at another place each time."""
    directory = small_disk / "out"
    words = [*SMALL, "--output", str(directory)]
    ballast, codes = small_disk / "ballast", []
    for free in (8, 60, 100, 140, 180, 220, 260):
        ballast.unlink(missing_ok=True)
        room = shutil.disk_usage(small_disk).free
        ballast.write_bytes(bytes(max(0, room - free * 1024)))
        done = crash_victim.command(words, tmp_path / "work")
        codes.append(done.code)
        if done.code == 0:
            break
        assert_refused(done, directory)
        assert "No space left on device" in done.stderr
    ballast.unlink(missing_ok=True)
    assert codes[0] == 5
    done = crash_victim.command(words, tmp_path / "work")
    assert done.code == 0, done.stderr
    assert hashes(directory) == reference.hashes


def test_a_read_only_place_is_refused_before_anything_is_computed(fork_server, tmp_path):
    done = crash_victim.command([*SMALL, "--output", "/sys/fedrevive"], tmp_path)
    assert_refused(done, Path("/sys/fedrevive"))
    assert "/sys/fedrevive" in done.stderr
    done = crash_victim.command(WORDS, tmp_path, Fault(1, errno.EROFS))
    assert_refused(done, tmp_path / "out")
    assert "Read-only file system" in done.stderr

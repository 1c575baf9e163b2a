"""Bit rot: whatever bit flips and wherever a file is cut, `fsck` or `resume` says so, or the result is the same."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import crash_victim
import numpy as np
import pyarrow.parquet as pq
import pytest
from crash_victim import SMALL, Fault
from safetensors.numpy import load_file
from uninterrupted import Reference, hashes, listing

from fedrevive.results.fsck import check_folder
from fedrevive.results.tables import model_hash, table_hash

QUICK_FLIPS, FLIPS, RESUMED = 80, 700, 20
"""Flips per kind of folder, and how many of those in an unfinished one are also resumed."""


@pytest.fixture(scope="module")
def unfinished(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that died right after its third snapshot."""
    folder = tmp_path_factory.mktemp("unfinished")
    commits = [n for n, name in enumerate(reference.operations) if name == "rmdir"]
    crash_victim.command([*SMALL, "--output", "out"], folder, Fault(commits[0] - 40))
    assert len(list((folder / "out" / "snapshots").glob("[0-9]*.json"))) == 2
    assert check_folder(folder / "out").problems == []
    return folder


def content(directory: Path) -> dict[str, str]:
    """Hashes of what a user reads, without any of the folder's checks."""
    tables = {name: table_hash(pq.read_table(directory / name)) for name in ("arrivals", "evaluations")}
    return {**tables, "model": model_hash(load_file(directory / "model.safetensors"))}


def flips(directory: Path, count: int, seed: int) -> list[tuple[Path, int, int]]:
    """File, byte and bit; every file gets its share, small ones too."""
    draws = random.Random(seed)
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.stat().st_size)
    chosen = [files[n % len(files)] for n in range(count)]
    return [(path, draws.randrange(path.stat().st_size), draws.randrange(8)) for path in chosen]


class Flipped:
    """A file with one bit the other way round, for a while."""

    def __init__(self, path: Path, position: int, bit: int) -> None:
        self._path, self._content = path, path.read_bytes()
        self._damaged = bytearray(self._content)
        self._damaged[position] ^= 1 << bit

    def __enter__(self) -> None:
        self._path.write_bytes(self._damaged)

    def __exit__(self, *error: object) -> None:
        self._path.write_bytes(self._content)


def silent_in_finished(reference: Reference, folder: Path, count: int) -> list[str]:
    directory = folder / "out"
    shutil.copytree(reference.folder, directory)
    expected, silent, found = content(directory), [], 0
    for path, position, bit in flips(directory, count, seed=0):
        with Flipped(path, position, bit):
            if check_folder(directory).problems:
                found += 1
            elif content(directory) != expected:
                silent.append(f"bit {bit} of byte {position} of {path}")
    assert found > 0.8 * count
    return silent


def silent_in_unfinished(
    reference: Reference, unfinished: Path, folder: Path, count: int, resumed: int
) -> list[str]:
    """Flips that `fsck` does not see must not change the end; of the others, a sample is resumed as well."""
    silent, directory = [], unfinished / "out"
    for number, (path, position, bit) in enumerate(flips(directory, count, seed=1)):
        with Flipped(path, position, bit):
            seen = bool(check_folder(directory).problems)
            if seen and number % (count // resumed):
                continue
            copy = folder / str(number)
            shutil.copytree(unfinished, copy)
        done = crash_victim.command(["resume", "out"], copy)
        assert done.code in (0, 3), done.stderr
        if done.code == 0 and (hashes(copy / "out"), listing(copy / "out")) != (
            reference.hashes,
            reference.listing,
        ):
            silent.append(f"bit {bit} of byte {position} of {path}")
        shutil.rmtree(copy)
    return silent


def test_some_flips_in_a_finished_folder(reference, tmp_path):
    assert silent_in_finished(reference, tmp_path, QUICK_FLIPS) == []


def test_some_flips_in_an_unfinished_folder(reference, unfinished, tmp_path):
    assert silent_in_unfinished(reference, unfinished, tmp_path, QUICK_FLIPS, resumed=4) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_many_flips_in_finished_and_unfinished_folders(reference, unfinished, tmp_path):
    assert silent_in_finished(reference, tmp_path, FLIPS) == []
    assert silent_in_unfinished(reference, unfinished, tmp_path, FLIPS, resumed=RESUMED) == []


@pytest.mark.parametrize("state", ["finished", "unfinished"])
def test_every_cut_is_seen(state, reference, unfinished, tmp_path):
    directory = tmp_path / "out"
    shutil.copytree(reference.folder if state == "finished" else unfinished / "out", directory)
    draws = random.Random(2)
    uncommitted = {"LOCK"} if state == "finished" else {"LOCK", "model.safetensors"}
    files = [path for path in directory.rglob("[!.]*") if path.is_file() and path.name not in uncommitted]
    for path in sorted(files):
        whole = path.read_bytes()
        for length in {0, len(whole) - 2, draws.randrange(len(whole) - 1)}:  # the last byte may be a line end
            path.write_bytes(whole[:length])
            assert check_folder(directory).problems, f"{path} cut to {length} of {len(whole)} bytes"
        path.write_bytes(whole)
    assert check_folder(directory).problems == []


def test_a_damaged_result_is_not_called_complete(reference, tmp_path):
    for name in ("arrivals", "model.safetensors"):
        folder = tmp_path / name
        shutil.copytree(reference.folder, folder / "out")
        path = folder / "out" / name
        path = next(path.iterdir()) if path.is_dir() else path
        damaged = bytearray(path.read_bytes())
        damaged[-5 if name == "model.safetensors" else 60] ^= 4
        path.write_bytes(damaged)
        done = crash_victim.command(["resume", "out"], folder)
        assert done.code == 3
        assert done.stderr.startswith(f"error: {path.relative_to(folder)}: damaged")
        assert len(done.stderr.splitlines()) == 1


def test_one_bit_of_the_model_changes_its_hash(reference):
    model = load_file(reference.folder / "model.safetensors")
    name = next(iter(model))
    before = model_hash(model)
    model[name].reshape(-1).view(np.uint8)[0] ^= 1
    assert model_hash(model) != before


def test_only_a_run_that_can_go_on_is_sent_on(unfinished, tmp_path):
    directory = Path(shutil.copytree(unfinished / "out", tmp_path / "out"))
    (note,) = check_folder(directory).notes
    assert note.endswith(f"go on with: fedrevive resume {directory}")
    for blob in (directory / "blobs").iterdir():
        blob.write_bytes(b"")
    report = check_folder(directory)
    assert "no snapshot is intact" in str(report.problems[0])
    assert not any("resume" in note for note in report.notes)

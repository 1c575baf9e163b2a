"""A disk that loses everything that was not synced: what is left goes on to the same end, with all that was promised.

`os.fsync` is the only moment at which such a disk changes, so its content after every call is every state it can have.
"""

from __future__ import annotations

import importlib.util
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from fedrevive.results import RunStore
from fedrevive.results.fsck import check_folder
from fedrevive.results.manifest import read_manifest

ARRIVALS = 5


class LossyDisk:
    """What would be left of a folder if the power failed now."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[int, bytes] = {}
        self._folders: dict[int, dict[str, tuple[int, bool]]] = {}
        self._held: list[int] = []  # a number of a file must not be used again

    def synced(self, descriptor: int) -> None:
        """Take over what `os.fsync` was called for."""
        here, status = Path(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor)
        self._held.append(os.dup(descriptor))
        if stat.S_ISDIR(status.st_mode):
            self._folders[status.st_ino] = {
                path.name: (path.stat().st_ino, path.is_dir()) for path in here.iterdir()
            }
        else:
            self._files[status.st_ino] = here.read_bytes()

    def copy(self, to: Path) -> None:
        """Write what is left to a new folder."""
        self._copy(self._root.stat().st_ino, to)

    def _copy(self, number: int, to: Path) -> None:
        to.mkdir()
        for name, (inode, is_folder) in self._folders.get(number, {}).items():
            if is_folder:
                self._copy(inode, to / name)
            else:
                (to / name).write_bytes(self._files.get(inode, b""))

    def close(self) -> None:
        for descriptor in self._held:
            os.close(descriptor)


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    """The deterministic run of the store's own tests."""
    path = Path(__file__).parents[1] / "results" / "deterministic_writer.py"
    spec = importlib.util.spec_from_file_location("deterministic_writer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(writer: ModuleType, directory: Path, committed: Callable[[int], None]) -> None:
    """The run, telling how many arrivals are durable."""
    with RunStore.open(directory, manifest=writer.MANIFEST) as store:
        for done in range(ARRIVALS):
            store.append("arrivals", [writer.arrival(done)])
            if done % 3 == 0:
                store.append("evaluations", [writer.evaluation(done)])
            if done % 2:
                store.commit(writer.snapshot(done + 1))
                committed(done + 1)
        store.finish(writer.server_tensors(ARRIVALS), {})


def test_nothing_that_was_committed_is_lost(writer, tmp_path, monkeypatch):
    root = tmp_path / "disk"
    root.mkdir()
    disk, copies, promised = LossyDisk(root), [], [0]
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        fsync(descriptor)
        disk.synced(descriptor)
        copy = tmp_path / f"copy{len(copies)}"
        disk.copy(copy)
        copies.append((copy, promised[-1]))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", recorded)
        written(writer, root / "run", promised.append)
        disk.copy(tmp_path / "last")
    disk.close()
    expected = read_manifest(root / "run")["hashes"]
    assert len(copies) > 40
    assert read_manifest(tmp_path / "last" / "run")["hashes"] == expected
    assert promised == [0, 2, 4]
    for copy, arrivals in copies:
        directory = copy / "run"
        if (directory / "manifest.json").exists():
            assert check_folder(directory).problems == [], copy
        with RunStore.open(directory, manifest=writer.MANIFEST) as store:
            latest = store.latest()
            assert store.finished or (latest.arrivals if latest else 0) >= arrivals, copy
        writer.write(directory, ARRIVALS)
        assert read_manifest(directory)["hashes"] == expected, copy


def test_success_is_written_when_every_row_has_its_final_place(writer, tmp_path, monkeypatch):
    """After `_SUCCESS` is durable, any Parquet reader finds every row, once, whatever the power does."""
    import pyarrow.parquet as pq

    root = tmp_path / "disk"
    root.mkdir()
    disk, fsync, seen = LossyDisk(root), os.fsync, []

    def recorded(descriptor: int) -> None:
        fsync(descriptor)
        disk.synced(descriptor)
        copy = tmp_path / f"copy{len(os.listdir(tmp_path))}"
        disk.copy(copy)
        if (copy / "run" / "_SUCCESS").exists():
            seen.append(pq.read_table(copy / "run" / "arrivals").column("sequence").to_pylist())

    monkeypatch.setattr(os, "fsync", recorded)
    written(writer, root / "run", lambda _: None)
    disk.close()
    assert seen
    assert all(sorted(rows) == list(range(ARRIVALS)) for rows in seen)

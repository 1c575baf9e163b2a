"""What lies where in a run folder; every repair only deletes what nothing names or repeats a committed
step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from fedrevive.results.files import is_temporary, sync_folder
from fedrevive.results.lock import LOCK
from fedrevive.results.manifest import MANIFEST
from fedrevive.results.schemas import TABLES
from fedrevive.results.snapshots import BLOBS, SNAPSHOTS, Document, Part, document_files, document_path
from fedrevive.settings.errors import UserError


def refuse_foreign(directory: Path) -> None:
    """Raise `UserError` (exit code 2) unless `directory` is a run folder, empty or absent."""
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory}: is a file; choose a folder")
    if not directory.exists() or has_manifest(directory):
        return
    foreign = sorted(p.name for p in directory.iterdir() if p.name != LOCK and not is_temporary(p.name))
    if foreign:
        raise UserError(f"{directory}: holds {foreign[0]!r} but no run; choose a new or empty folder")


def has_manifest(directory: Path) -> bool:
    """Whether `directory` is a run folder."""
    return (directory / MANIFEST).exists()


def make_folder(directory: Path) -> None:
    """Create `directory` and its parents durably."""
    if not directory.exists():
        directory.mkdir(parents=True, exist_ok=True)
        sync_folder(directory.parent)


def make_subfolders(directory: Path) -> None:
    """Create the folders of tables and resume state durably."""
    for name in (*TABLES, SNAPSHOTS, BLOBS):
        (directory / name).mkdir(exist_ok=True)
    sync_folder(directory)


def drop_temporaries(directory: Path) -> None:
    """Delete what interrupted writes left in `directory` and its folders."""
    for folder in (directory, *(directory / name for name in (*TABLES, SNAPSHOTS, BLOBS))):
        if folder.is_dir():
            for path in folder.iterdir():
                if is_temporary(path.name):
                    path.unlink()


def publish(directory: Path, parts: Iterable[Part]) -> None:
    """Give committed parts the names that readers see."""
    for part in parts:
        if part.hidden(directory).exists():
            os.replace(part.hidden(directory), part.published(directory))


def drop_parts_except(directory: Path, parts: Iterable[Part]) -> None:
    """Delete every part, hidden or published, that `parts` does not name."""
    named = {part.published(directory) for part in parts}
    for table in TABLES:
        for path in (directory / table).glob("*[0-9].parquet"):
            if path not in named:
                path.unlink()


def drop_resume_files_except(directory: Path, kept: Sequence[Document]) -> None:
    """Delete every snapshot that is not `kept` and every blob that none of them names."""
    blobs = {digest for document in kept for digest in document.blobs}
    numbered = {document_path(directory, document.number) for document in kept}
    for path in document_files(directory):
        if path not in numbered:
            path.unlink()
    for path in (directory / BLOBS).iterdir():
        if path.stem not in blobs:
            path.unlink()


def drop_resume_state(directory: Path) -> None:
    """Delete all snapshots and blobs."""
    for name in (SNAPSHOTS, BLOBS):
        if (directory / name).exists():
            shutil.rmtree(directory / name)

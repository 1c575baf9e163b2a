"""What lies where in a run folder; every repair only deletes what nothing names or repeats a committed
step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedrevive.results.files import is_temporary, sync_folder
from fedrevive.results.lock import LOCK
from fedrevive.results.manifest import MANIFEST, read_manifest, require_same_run
from fedrevive.results.schemas import TABLES
from fedrevive.results.snapshots import BLOBS, SNAPSHOTS, Document, Part, document_files, document_path
from fedrevive.settings.errors import UserError

PRIVATE = 0o700
"""Mode of folders: client models are in the resume state (SECURITY.md)."""


def refuse_foreign(directory: Path) -> None:
    """Raise `UserError` (exit code 2) unless `directory` is a run folder, empty or absent."""
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory}: is a file; choose a folder")
    if not directory.exists():
        return
    foreign = sorted(p.name for p in directory.iterdir() if p.name != LOCK and not is_temporary(p.name))
    # The manifest comes before all else: asked for last, what another writer makes meanwhile is not foreign.
    if foreign and not has_manifest(directory):
        raise UserError(f"{directory}: holds {foreign[0]!r} but no run; choose a new or empty folder")


def has_manifest(directory: Path) -> bool:
    """Whether `directory` is a run folder."""
    return (directory / MANIFEST).exists()


def kept_manifest(directory: Path, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """The manifest that a writer of `wanted` finds and keeps; None when it has to write its own.

    A run that has saved nothing gives way: the command that made the folder may have failed at once, and its correction
    needs no other folder.

    Raises:
        UserError: exit code 2, the folder holds something else; 3, its manifest is damaged.
    """
    if not has_manifest(directory):
        return None
    stored = read_manifest(directory)
    if "run_id" in stored and stored["run_id"] != wanted["run_id"] and not _has_saved(directory, stored):
        return None
    require_same_run(directory, stored, wanted)
    return stored


def _has_saved(directory: Path, manifest: Mapping[str, Any]) -> bool:
    published = (path for table in TABLES for path in (directory / table).glob("[0-9]*.parquet"))
    return "parts" in manifest or bool(document_files(directory)) or any(published)


def make_folder(directory: Path) -> None:
    """Create `directory`, which only its user may enter, and its parents, durably.

    Parents are the user's and follow his umask, except within a results folder.
    """
    missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    for folder in reversed(missing):
        private = folder == directory or has_manifest(folder.parent)
        folder.mkdir(exist_ok=True, mode=PRIVATE if private else 0o777)
        sync_folder(folder.parent)


def make_subfolders(directory: Path) -> None:
    """Create the folders of tables and resume state durably."""
    for name in (*TABLES, SNAPSHOTS, BLOBS):
        (directory / name).mkdir(exist_ok=True, mode=PRIVATE)
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
    """Delete every part, hidden or published, that `parts` does not name.

    Goes before `publish`: a reader that lists a table's folder may miss rows for a moment, but never meets a row twice.
    """
    named = {path for part in parts for path in (part.published(directory), part.hidden(directory))}
    for table in TABLES:
        for path in (directory / table).glob("*[0-9].parquet"):
            if path not in named:
                path.unlink()


def sync_tables(directory: Path) -> None:
    """Make what was published and dropped durable."""
    for table in TABLES:
        sync_folder(directory / table)


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

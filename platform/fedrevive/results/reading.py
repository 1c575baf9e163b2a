"""Read a run's committed tables, also while another process writes them; no lock is taken."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from fedrevive.core.parquet_file import read_parquet
from fedrevive.results.files import environment_errors, sha256_bytes
from fedrevive.results.manifest import read_manifest
from fedrevive.results.schemas import SORT_KEYS, TABLES
from fedrevive.results.snapshots import (
    Part,
    Snapshot,
    document_files,
    documents,
    intact_documents,
    no_intact_snapshot,
)
from fedrevive.settings.errors import ExitCode, UserError

_MOVES = 5
"""Looks at a folder whose files keep being replaced."""


def read_table(directory: Path, table: str) -> pa.Table:
    """Committed rows of `table` (a key of `schemas.TABLES`), ordered by sequence or arrivals.

    Raises:
        UserError: exit code 2 when `directory` is no run folder, 3 when it is damaged, 5 when unreadable.
    """
    with environment_errors(directory):
        for _ in range(_MOVES):
            try:
                return read_parts(directory, table, committed_parts(directory))
            except FileNotFoundError as error:  # the writer replaced it by newer files meanwhile
                missing = error
    raise UserError(
        f"{missing.filename}: missing, the run folder is damaged", exit_code=ExitCode.CORRUPT
    ) from missing


def committed_parts(directory: Path) -> tuple[Part, ...]:
    """Parts of all tables as named by the manifest of a finished run, else by the newest snapshot."""
    manifest = read_manifest(directory)
    if "parts" in manifest:
        return tuple(Part(**part) for part in manifest["parts"])
    files = document_files(directory)
    newest = next(documents(directory), None)
    if newest is None and files:
        raise no_intact_snapshot(files[0])
    return newest.parts if newest else ()


def read_snapshot(directory: Path) -> Snapshot | None:
    """The newest snapshot of a run folder whose writer is gone, checked; None without one.

    Raises:
        UserError: exit code 3, there are snapshots but none is intact; 5, the folder cannot be read.
    """
    with environment_errors(directory):
        newest = intact_documents(directory, 1)
        return newest[0].load(directory) if newest else None


def read_parts(directory: Path, table: str, parts: Iterable[Part]) -> pa.Table:
    """Ordered rows of the `parts` that belong to `table`.

    Raises:
        FileNotFoundError: a part is not there (any more).
        UserError: exit code 3, a part is damaged.
    """
    pieces = [_read_part(directory, part) for part in parts if part.table == table]
    return in_order(table, pa.concat_tables([TABLES[table].empty_table(), *pieces]))


def in_order(table: str, rows: pa.Table) -> pa.Table:
    """`rows` sorted by the table's key, in one chunk."""
    key = SORT_KEYS.get(table)
    if key:
        # Not sort_by: it starts threads, which is what `read_parquet` avoids.
        rows = rows.take(pc.sort_indices(rows, sort_keys=[(key, "ascending")]))
    return rows.combine_chunks()


def _read_part(directory: Path, part: Part) -> pa.Table:
    published, hidden = part.published(directory), part.hidden(directory)
    try:
        raw = hidden.read_bytes()  # committed, but not yet published
    except FileNotFoundError:
        raw = published.read_bytes()
    if sha256_bytes(raw) != part.sha256:
        raise UserError(
            f"{published}: damaged (sha256 differs from the committed one)", exit_code=ExitCode.CORRUPT
        )
    return read_parquet(pa.py_buffer(raw))

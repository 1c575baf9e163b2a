"""A run's folder: one writer, crash-safe at every moment (design.md §7, reliability.md §4).

Order of a commit: blobs, hidden parts, snapshot document (its rename is the commit), publish parts, drop old
files. Order of the end: compacted hidden parts, model.safetensors, manifest with the hashes (the commit), drop
old parts, publish, `_SUCCESS`, drop resume state. Every opening repairs what an interruption left: it only deletes
what nothing names and repeats the steps after a commit, so an interruption of the repair is harmless too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
from numpy.typing import NDArray

from fedrevive.results.files import commit_file, environment_errors
from fedrevive.results.finished import MODEL, SUCCESS, refuse_damage, success_bytes
from fedrevive.results.folder import (
    drop_parts_except,
    drop_resume_files_except,
    drop_resume_state,
    drop_temporaries,
    kept_manifest,
    make_folder,
    make_subfolders,
    publish,
    refuse_foreign,
    sync_tables,
)
from fedrevive.results.lock import take_lock
from fedrevive.results.manifest import read_manifest, write_manifest
from fedrevive.results.reading import in_order, read_parts
from fedrevive.results.schemas import TABLES
from fedrevive.results.snapshots import (
    Document,
    Part,
    Snapshot,
    intact_documents,
    write_blobs,
)
from fedrevive.results.tables import RowCheck, model_hash, parquet_bytes, table_hash
from fedrevive.results.tensors import tensor_chunks

KEPT_SNAPSHOTS = 2


def is_complete(directory: Path) -> bool:
    """Whether `directory` holds a finished run; takes no lock."""
    return (directory / SUCCESS).exists()


class RunStore:
    """The writer of one run folder; made by `open` or `attach`, closed by `close` or a `with` block."""

    def __init__(self, directory: Path, manifest: dict[str, Any], lock: int) -> None:
        self.directory = directory
        self._manifest = manifest
        self._lock: int | None = lock
        self._checks = {table: RowCheck(schema) for table, schema in TABLES.items()}
        self._rows: dict[str, list[Mapping[str, Any]]] = {table: [] for table in TABLES}
        self._converted: dict[str, list[pa.Table]] = {table: [] for table in TABLES}
        """Buffered rows that a reader has asked for, before those in `_rows`."""
        self._kept: list[Document] = []  # newest first

    @classmethod
    def open(cls, directory: Path, *, manifest: Mapping[str, Any]) -> Self:
        """Create the run folder, or continue the run it holds, and lock it.

        Args:
            directory: the run's folder; nothing is created when a check fails.
            manifest: JSON values, at least `run_id` and `config`; a run that has begun keeps the one it has.

        Raises:
            UserError: exit code 2 for a file, a folder with other content or another run; 3 when the folder
                is damaged; 4 when another process holds it; 5 when it cannot be written.
        """
        with environment_errors(directory):
            refuse_foreign(directory)
            kept_manifest(directory, manifest)
            make_folder(directory)
        lock = take_lock(directory)
        try:
            stored = kept_manifest(directory, manifest)  # another may have appeared since the first look
            store = cls(directory, stored or write_manifest(directory, manifest), lock)
            with environment_errors(directory):
                store._recover()
        except BaseException:
            os.close(lock)
            raise
        return store

    @classmethod
    def attach(cls, directory: Path) -> Self:
        """Continue the run that `directory` holds.

        Raises:
            UserError: exit code 2 when it is not a run folder, else as `open`.
        """
        return cls.open(directory, manifest=read_manifest(directory))

    @property
    def manifest(self) -> dict[str, Any]:
        """The stored manifest; after `finish` with `summary`, `hashes` and `parts`."""
        return self._manifest

    @property
    def finished(self) -> bool:
        """Whether the run is complete."""
        return "parts" in self._manifest

    def latest(self) -> Snapshot | None:
        """The newest committed snapshot; None before the first one and after the end."""
        return self._kept[0].load(self.directory) if self._kept else None

    def append(self, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Buffer rows of `table` until the next commit. Raises `ValueError` for a row that does not fit."""
        for row in rows:
            self._checks[table].require(row)
            self._rows[table].append(row)

    def commit(self, snapshot: Snapshot) -> None:
        """Make the buffered rows and `snapshot` durable, together or not at all; arrays are not copied.

        Raises:
            UserError: exit code 5; the last commit is intact and the call may be repeated.
        """
        self._require_unfinished()
        with environment_errors(self.directory):
            known = self._kept[0].base_models if self._kept else {}
            tensors, base_models = write_blobs(self.directory, snapshot, known)
            buffered = {table: self._buffered(table) for table in TABLES}
            parts = [self._write_part(table, rows) for table, rows in buffered.items() if rows.num_rows]
            document = Document(
                number=self._number,
                arrivals=snapshot.arrivals,
                virtual_time=snapshot.virtual_time,
                state=snapshot.state,
                tensors=tensors,
                base_models=base_models,
                parts=(*self._parts, *parts),
            )
            document.commit(self.directory)
            self._kept = [document, *self._kept][:KEPT_SNAPSHOTS]
            self._clear_rows()
            publish(self.directory, parts)
            drop_resume_files_except(self.directory, self._kept)

    def finish(self, model: Mapping[str, NDArray[Any]], summary: Mapping[str, Any]) -> None:
        """Commit remaining rows, final model, hashes and `summary`; compact the tables; drop resume state.

        Raises:
            UserError: exit code 5; the last commit is intact and the call may be repeated.
        """
        self._require_unfinished()
        with environment_errors(self.directory):
            tables = {table: self.table(table) for table in TABLES}
            parts = [self._write_part(table, rows) for table, rows in tables.items()]
            commit_file(self.directory / MODEL, *tensor_chunks(model))
            hashes = {name: table_hash(tables[name]) for name in ("arrivals", "evaluations", "events")}
            self._manifest = write_manifest(
                self.directory,
                {
                    **self._manifest,
                    "summary": summary,
                    "hashes": {**hashes, "model": model_hash(model)},
                    "parts": [asdict(part) for part in parts],
                },
            )
            self._clear_rows()
            self._complete()

    def rollback(self) -> None:
        """Forget the rows appended after the last commit: what made them starts again from there."""
        self._clear_rows()

    def close(self) -> None:
        """Free the lock; buffered rows are forgotten."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _number(self) -> int:
        return self._kept[0].number + 1 if self._kept else 1

    @property
    def _parts(self) -> tuple[Part, ...]:
        return self._kept[0].parts if self._kept else ()

    def _require_unfinished(self) -> None:
        if self.finished:
            raise RuntimeError(f"{self.directory} holds a finished run")

    def _write_part(self, table: str, rows: pa.Table) -> Part:
        content = parquet_bytes(rows)
        part = Part(table, f"{self._number:08d}.parquet", rows.num_rows, content.size, "")
        return replace(part, sha256=commit_file(part.hidden(self.directory), content))

    def table(self, table: str) -> pa.Table:
        """All rows of `table` so far, committed and buffered, in order."""
        committed = read_parts(self.directory, table, self._parts)
        return in_order(table, pa.concat_tables([committed, self._buffered(table)]))

    def _buffered(self, table: str) -> pa.Table:
        """Rows since the last commit; each is converted once."""
        if self._rows[table]:
            self._converted[table].append(pa.Table.from_pylist(self._rows[table], schema=TABLES[table]))
            self._rows[table].clear()
        return pa.concat_tables([TABLES[table].empty_table(), *self._converted[table]])

    def _clear_rows(self) -> None:
        for table in TABLES:
            self._rows[table].clear()
            self._converted[table].clear()

    def _recover(self) -> None:
        drop_temporaries(self.directory)
        if self.finished:
            refuse_damage(self.directory, self._manifest)
            self._complete()
            return
        make_subfolders(self.directory)
        self._kept = intact_documents(self.directory, KEPT_SNAPSHOTS)
        drop_parts_except(self.directory, self._parts)
        publish(self.directory, self._parts)
        drop_resume_files_except(self.directory, self._kept)

    def _complete(self) -> None:
        """The steps after the final manifest; repeating them does no harm."""
        if not (self.directory / SUCCESS).exists():
            parts = [Part(**part) for part in self._manifest["parts"]]
            drop_parts_except(self.directory, parts)
            publish(self.directory, parts)
            sync_tables(self.directory)
            commit_file(self.directory / SUCCESS, success_bytes(self._manifest))
        self._kept = []
        drop_resume_state(self.directory)

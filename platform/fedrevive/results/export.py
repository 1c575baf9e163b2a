"""One table of many runs as one file, Parquet or CSV, with one run in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from fedrevive.results.files import replaced
from fedrevive.results.reading import read_table
from fedrevive.results.schemas import TABLES
from fedrevive.results.tables import ROWS_PER_GROUP
from fedrevive.settings.errors import ExitCode, UserError


class KeyedRun(NamedTuple):
    """A run folder and what tells its rows from those of other runs."""

    folder: Path
    keys: Mapping[str, Any]
    """Column -> the value that all rows of the run get."""


class _Writer(Protocol):
    def write_table(self, table: pa.Table) -> None: ...

    def close(self) -> None: ...


def joined_schema(table: str, keys: pa.Schema) -> pa.Schema:
    """The `keys` before the columns of `table`, a key of `schemas.TABLES`."""
    return pa.schema([*keys, *TABLES[table]], metadata=TABLES[table].metadata)


def joined_rows(
    table: str,
    runs: Iterable[KeyedRun],
    keys: pa.Schema,
    left_out: Callable[[KeyedRun, UserError], None] | None = None,
) -> Iterator[pa.Table]:
    """The committed rows of `table` of every run in turn, each with the schema `joined_schema(table, keys)`.

    Args:
        table: a key of `schemas.TABLES`.
        runs: where the rows are.
        keys: columns that name the run.
        left_out: told of every damaged run, which is then passed over; None = a damaged run ends the export.

    Raises:
        UserError: exit code 2 when a folder is no run folder, 3 when it is damaged, 5 when unreadable.
    """
    schema = joined_schema(table, keys)
    for run in runs:
        try:
            rows = read_table(run.folder, table)
        except UserError as error:
            if left_out is None or error.exit_code != ExitCode.CORRUPT:
                raise
            left_out(run, error)
            continue
        constant = [pa.repeat(pa.scalar(run.keys[field.name], field.type), rows.num_rows) for field in keys]
        yield pa.Table.from_arrays([*constant, *rows.columns], schema=schema)


def write_export(path: Path, schema: pa.Schema, tables: Iterable[pa.Table], *, as_csv: bool) -> int:
    """Write the rows of `tables` to `path` as they come and return their number.

    `path` appears, or is replaced, when all rows are written. CSV has a header, empty fields for null and quoted
    strings.

    Raises:
        UserError: exit code 5, the file cannot be written, or as the iteration over `tables` raises.
    """
    rows = 0
    with replaced(path) as stream:
        writer = _writer(stream, schema, as_csv)
        try:
            for table in _grouped(tables):
                writer.write_table(table)
                rows += table.num_rows
        finally:
            writer.close()
    return rows


def _writer(stream: BinaryIO, schema: pa.Schema, as_csv: bool) -> _Writer:
    if as_csv:
        writer: _Writer = csv.CSVWriter(stream, schema)
        return writer
    parquet: _Writer = pq.ParquetWriter(stream, schema, compression="zstd", write_page_checksum=True)
    return parquet


def _grouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of `ROWS_PER_GROUP` rows, the last one smaller: a search has many short runs."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(part.num_rows for part in waiting) < ROWS_PER_GROUP:
            continue
        *full, rest = _slices(waiting)
        yield from full
        waiting = [rest]
    if waiting:
        yield from (part for part in _slices(waiting) if part.num_rows)


def _slices(tables: Sequence[pa.Table]) -> list[pa.Table]:
    joined = pa.concat_tables(tables)
    starts = range(0, joined.num_rows + 1, ROWS_PER_GROUP)
    return [joined.slice(start, ROWS_PER_GROUP) for start in starts]

"""Tables in memory: from rows, to Parquet, their content hash, and what an evaluation table says in short."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from fedrevive.core.parquet_file import read_parquet
from fedrevive.core.target import TOLERANCE
from fedrevive.results.files import commit_file, environment_errors
from fedrevive.results.schemas import NANOSECONDS_PER_UNIT, RUNS
from fedrevive.results.tensors import contiguous_bytes
from fedrevive.settings.errors import ExitCode, UserError

ROWS_PER_GROUP = 65_536

_ACCEPTED: dict[pa.DataType, tuple[type, ...]] = {
    pa.int64(): (int, np.integer),
    pa.float64(): (float, int, np.floating, np.integer),
    pa.string(): (str,),
    pa.bool_(): (bool, np.bool_),
}


class RowCheck:
    """Whether rows fit a schema: Arrow itself drops unknown keys and truncates 1.5 to 1.

    Rows are alike: once one with the same keys and types has passed, the others cost a microsecond.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._columns = {
            field.name: (_ACCEPTED[field.type], field.nullable, str(field.type)) for field in schema
        }
        self._passed: set[tuple[object, ...]] = set()

    def require(self, row: Mapping[str, Any]) -> None:
        """Raise `ValueError` unless `row` fits; a nullable column may be left out, every other one is required."""
        shape = (*row, *map(type, row.values()))
        if shape not in self._passed:
            self._examine(row)
            self._passed.add(shape)

    def _examine(self, row: Mapping[str, Any]) -> None:
        if unknown := row.keys() - self._columns.keys():
            raise ValueError(f"columns {sorted(unknown)} are not in the schema {list(self._columns)}")
        for name, (accepted, nullable, kind) in self._columns.items():
            value = row.get(name)
            if value is None:
                if not nullable:
                    raise ValueError(f"column {name!r} is required")
            elif not isinstance(value, accepted) or (isinstance(value, bool) and kind != "bool"):
                raise ValueError(f"column {name!r} is {value!r}; it must be {kind}")


def table_from_rows(schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """A table with exactly `schema`. Raises `ValueError` for a row that does not fit."""
    checked, check = list(rows), RowCheck(schema)
    for row in checked:
        check.require(row)
    return pa.Table.from_pylist(checked, schema=schema)


def parquet_bytes(table: pa.Table) -> pa.Buffer:
    """Parquet file content: zstd, page checksums, 65,536 rows per group."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True, row_group_size=ROWS_PER_GROUP)
    return sink.getvalue()


def write_runs(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write `trials.parquet` or `comparison.parquet`, one row per run (`schemas.RUNS`).

    Raises:
        ValueError: a row does not fit the schema.
        UserError: exit code 5, the file cannot be written.
    """
    commit_file(path, parquet_bytes(table_from_rows(RUNS, rows)))


def read_runs(path: Path) -> pa.Table:
    """The table that `write_runs` wrote.

    Raises:
        UserError: exit code 3, it is damaged or of another kind; 5, it cannot be read.
    """
    try:
        with environment_errors(path):
            rows = read_parquet(path)
    except pa.ArrowException as error:
        raise UserError(f"{path}: damaged ({error})", exit_code=ExitCode.CORRUPT) from error
    if not rows.schema.equals(RUNS):
        raise UserError(f"{path}: its columns are not those of a table of runs", exit_code=ExitCode.CORRUPT)
    return rows


def table_hash(table: pa.Table) -> str:
    """sha256 of a table's canonical content (reliability.md §2).

    Covers column names, types, order of columns and rows, values, nulls. All NaN are one value, null is
    another, -0.0 differs from 0.0. Independent of chunks, row groups, compression, metadata and nullability
    flags.

    Raises:
        TypeError: a column is none of int64, float64, string, bool.
    """
    digest = hashlib.sha256(f"{table.num_rows} rows".encode())
    for name, column in zip(table.column_names, table.columns, strict=True):
        digest.update(f"|{len(name.encode())}:{name}:{column.type}|".encode())
        digest.update(contiguous_bytes(column.is_valid().to_numpy()))
        for values in _canonical_values(name, column):
            digest.update(contiguous_bytes(values))
    return digest.hexdigest()


def model_hash(model: Mapping[str, NDArray[Any]]) -> str:
    """sha256 of a model's names (sorted), shapes, dtypes and bytes in C order."""
    digest = hashlib.sha256()
    for name in sorted(model):
        array = model[name]
        digest.update(f"|{len(name.encode())}:{name}:{array.dtype.str}:{array.shape}|".encode())
        digest.update(contiguous_bytes(array))
    return digest.hexdigest()


def moving_average(values: ArrayLike, window: int) -> NDArray[np.float64]:
    """Mean of each value and the `window` - 1 before it, same length; NaN until `window` values exist."""
    series = np.asarray(values, np.float64)
    average = np.full(series.shape, np.nan)
    if series.size >= window:
        average[window - 1 :] = np.lib.stride_tricks.sliding_window_view(series, window).mean(axis=-1)
    return average


def summary(
    evaluations: pa.Table,
    *,
    target_accuracy: float | None,
    end_time_ns: int,
    window: int,
    split: Literal["test", "validation"] = "test",
) -> dict[str, float | None]:
    """What one run achieved on one part of the data.

    Args:
        evaluations: table with the schema `schemas.EVALUATIONS`, in order.
        target_accuracy: share in (0, 1] that `time_to_target` refers to, or None.
        end_time_ns: virtual nanoseconds at the end of the run; the last accuracy counts until then.
        window: evaluations in the moving average, see `core.target.window`.
        split: part whose accuracy is meant; results are quoted on test, choices are made on validation.

    Returns:
        final_accuracy: mean over the last window; over all accuracies of a shorter run but the untrained model's.
        best_accuracy: the largest one.
        auc: time-average by the trapezoid rule, from the first evaluation to the end.
        time_to_target: virtual time units until the moving average reaches the target for the first time; it
            cannot before the window is full. None when never, or without a target.
        All are None without any evaluation.
    """
    accuracy = evaluations[f"{split}_accuracy"].to_numpy()
    times = evaluations["virtual_time"].to_numpy() / NANOSECONDS_PER_UNIT
    if accuracy.size == 0:
        return dict.fromkeys(("final_accuracy", "best_accuracy", "auc", "time_to_target"))
    return {
        "final_accuracy": final_mean(evaluations, f"{split}_accuracy", window),
        "best_accuracy": float(accuracy.max()),
        "auc": _time_average(times, accuracy, end_time_ns / NANOSECONDS_PER_UNIT),
        "time_to_target": None
        if target_accuracy is None
        else _first_reach(times, accuracy, target_accuracy, window),
    }


def final_mean(evaluations: pa.Table, column: str, window: int) -> float:
    """Mean of `column` over the last `window` evaluations, without the untrained model's unless it is all there is."""
    trained = evaluations["arrivals"].to_numpy() > 0
    values = evaluations[column].to_numpy()
    return float((values[trained] if trained.any() else values)[-window:].mean())


def _canonical_values(name: str, column: pa.ChunkedArray) -> Sequence[NDArray[Any]]:
    if column.type == pa.int64():
        return [column.fill_null(0).to_numpy()]
    if column.type == pa.bool_():
        return [column.fill_null(False).to_numpy()]
    if column.type == pa.float64():
        values = column.fill_null(0.0).to_numpy()
        return [np.where(np.isnan(values), np.nan, values)]
    if column.type == pa.string():
        filled = column.fill_null("")
        text = "".join(filled.to_pylist()).encode()
        return [pc.binary_length(filled).to_numpy().astype(np.int64), np.frombuffer(text, np.uint8)]
    raise TypeError(f"column {name!r} has type {column.type}; allowed are int64, float64, string, bool")


def _time_average(times: NDArray[np.float64], values: NDArray[np.float64], end: float) -> float:
    times, values = np.append(times, max(end, times[-1])), np.append(values, values[-1])
    span = times[-1] - times[0]
    return float(np.trapezoid(values, times) / span) if span > 0 else float(values[-1])


def _first_reach(
    times: NDArray[np.float64], values: NDArray[np.float64], target: float, window: int
) -> float | None:
    reached = np.flatnonzero(moving_average(values, window) >= target - TOLERANCE)
    return float(times[reached[0]]) if reached.size else None

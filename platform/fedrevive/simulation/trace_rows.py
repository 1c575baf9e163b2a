"""Rows of a table of devices as they stand in the file, with the place of each: CSV and Parquet."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from fedrevive.settings.errors import UserError, did_you_mean, shown

Float64 = NDArray[np.float64]

DEVICE = "device"
SERIES = ("step_seconds", "download_kbps", "upload_kbps", "latency_seconds")
WINDOW = ("available_from_seconds", "available_until_seconds", "period_seconds")
COLUMNS = (DEVICE, *SERIES, *WINDOW)
REQUIRED = (DEVICE, "step_seconds")


@dataclass(frozen=True)
class TraceRows:
    """The table as it stands, NaN where a cell is empty."""

    columns: dict[str, Float64]
    """By name, all of `COLUMNS`, each [rows]."""
    place: Callable[[int], str]
    """Where row i = 0, 1, 2, ... stands."""

    def fail(self, row: int, problem: str) -> NoReturn:
        raise UserError(f"delays.path: {problem}", place=self.place(row))

    def require(self, allowed: NDArray[np.bool_], name: str, rule: str) -> None:
        """Name the first row of column `name` that is not allowed."""
        if not allowed.all():
            row = int(np.argmin(allowed))
            value = self.columns[name][row]
            self.fail(row, f"{name}: {'empty' if np.isnan(value) else f'{value:g}'}; must be {rule}")


def read_rows(path: Path) -> TraceRows:
    """The rows of a file, by its suffix.

    Raises:
        UserError: it is neither CSV nor Parquet, or has other columns.
    """
    return _parquet_rows(path) if path.suffix.lower() == ".parquet" else _csv_rows(path)


def _csv_rows(path: Path) -> TraceRows:
    names, lines, cells = _csv_cells(path)

    def place(row: int) -> str:
        return f"line {lines[row]} of {path}"

    for row, found in enumerate(cells):
        if len(found) != len(names):
            raise UserError(
                f"delays.path: {len(found)} cells, the header has {len(names)}; add commas for empty cells",
                place=place(row),
            )
    columns = {name: np.full(len(cells), np.nan) for name in COLUMNS}
    for name, texts in zip(names, zip(*cells, strict=True), strict=False):
        columns[name] = _numbers(texts, name, place)
    return TraceRows(columns, place)


def _csv_cells(path: Path) -> tuple[list[str], list[int], list[list[str]]]:
    """Names of the columns, and line and cells of every row."""
    lines: list[int] = []
    cells: list[list[str]] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            names = _checked_names(next(reader, []), path)
            for row in reader:
                if row:
                    lines.append(reader.line_num)
                    cells.append(row)
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(
                f"delays.path: not CSV in UTF-8 ({error})", place=f"line {reader.line_num + 1} of {path}"
            ) from None
    return names, lines, cells


def _numbers(texts: Iterable[str], name: str, place: Callable[[int], str]) -> Float64:
    values = []
    for row, text in enumerate(texts):
        try:
            value = float(text) if text.strip() else np.nan
        except ValueError:
            value = np.inf
        if np.isinf(value) or (np.isnan(value) and text.strip()):
            raise UserError(
                f"delays.path: {name}: {shown(text)} is not a finite number", place=place(row)
            ) from None
        values.append(value)
    return np.array(values, np.float64)


def _checked_names(names: Iterable[str], path: Path) -> list[str]:
    found = [name.strip() for name in names]
    place = f"line 1 of {path}"
    for name in found:
        if name not in COLUMNS:
            hint = did_you_mean(name, COLUMNS) or f"; known: {', '.join(COLUMNS)}"
            raise UserError(f"delays.path: {shown(name)}: unknown column{hint}", place=place)
        if found.count(name) > 1:
            raise UserError(f"delays.path: column {name} stands there twice", place=place)
    for name in REQUIRED:
        if name not in found:
            raise UserError(f"delays.path: column {name} is missing", place=place)
    return found


def _parquet_rows(path: Path) -> TraceRows:
    import pyarrow as pa

    from fedrevive.core.parquet_file import read_parquet

    try:
        table = read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"delays.path: not a Parquet file ({' '.join(str(error).split())[:80]})", place=str(path)
        ) from None
    names = _checked_names(table.column_names, path)
    columns = {name: np.full(len(table), np.nan) for name in COLUMNS}
    for name in names:
        try:
            columns[name] = table.column(name).cast(pa.float64()).to_numpy().astype(np.float64)
        except pa.ArrowException:
            raise UserError(
                f"delays.path: column {name} holds {table.column(name).type}; must hold numbers",
                place=str(path),
            ) from None
    return TraceRows(columns, lambda row: f"row {row + 1} of {path}")

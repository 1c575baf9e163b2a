"""What a finished run's folder must hold, and whether it does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
from safetensors import SafetensorError

from fedrevive.core.parquet_file import read_parquet
from fedrevive.results.files import sha256_bytes
from fedrevive.results.schemas import SCHEMA_VERSION, SORT_KEYS, TABLES
from fedrevive.results.snapshots import Part
from fedrevive.results.tables import model_hash, table_hash
from fedrevive.results.tensors import load_tensors
from fedrevive.settings.errors import ExitCode, UserError

SUCCESS = "_SUCCESS"
MODEL = "model.safetensors"
NUMBERED = ("arrivals", "events")
"""Tables whose key counts 0, 1, 2, ... without holes."""
AGAIN = "take it from a copy of the folder, or run the experiment again in a new one"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a results folder."""

    path: Path
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}; {self.remedy}"


def success_bytes(manifest: Mapping[str, Any]) -> bytes:
    """Content of `_SUCCESS`: hashes and row counts of a finished run."""
    rows = {part["table"]: part["rows"] for part in manifest["parts"]}
    content = {"schema_version": SCHEMA_VERSION, "hashes": manifest["hashes"], "rows": rows}
    return json.dumps(content).encode() + b"\n"


def refuse_damage(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Compare the sha256 of every table file and the content hash of the model with a finished run's manifest.

    Costs one reading of the results; `fsck` looks deeper.

    Raises:
        UserError: exit code 3, naming the first file that is damaged or missing.
    """
    parts = [Part(**part) for part in manifest["parts"]]
    problems = [problem for part in parts for _, problem in [part_content(directory, part)] if problem]
    problems += model_problems(directory, manifest)
    if problems:
        raise UserError(str(problems[0]), more=len(problems) - 1, exit_code=ExitCode.CORRUPT)


def part_content(directory: Path, part: Part) -> tuple[bytes, Problem | None]:
    """The bytes of a committed part, published or about to be, or what is wrong with them."""
    path = part.published(directory)
    for name in (path, part.hidden(directory)):
        if name.is_file():
            raw = name.read_bytes()
            if sha256_bytes(raw) == part.sha256:
                return raw, None
            return b"", Problem(name, "damaged (sha256 differs from the committed one)", AGAIN)
    return b"", Problem(path, "missing", AGAIN)


def read_part(directory: Path, part: Part) -> tuple[pa.Table, Problem | None]:
    """The rows of a part after all checks that one file allows: sha256, page checksums, schema, row count."""
    schema, path = TABLES[part.table], part.published(directory)
    raw, problem = part_content(directory, part)
    if problem is None:
        try:
            rows = read_parquet(pa.py_buffer(raw))
        except (pa.ArrowException, OSError) as error:
            problem = Problem(path, f"unreadable: {error}", AGAIN)
        else:
            if not rows.schema.equals(schema):
                problem = Problem(path, f"its columns are not those of {part.table}", AGAIN)
            elif rows.num_rows != part.rows:
                problem = Problem(path, f"holds {rows.num_rows} rows, not {part.rows}", AGAIN)
            else:
                return rows, None
    return schema.empty_table(), problem


def order_problem(path: Path, table: str, rows: pa.Table) -> Problem | None:
    """Whether rows that lie in committed order ascend by the table's key, without holes where it counts."""
    if table not in SORT_KEYS:
        return None
    keys = rows.column(SORT_KEYS[table]).to_pylist()
    if table in NUMBERED and keys != list(range(len(keys))):
        wrong = next(n for n, key in enumerate(keys) if n != key)
        return Problem(path, f"row {wrong} has {SORT_KEYS[table]} {keys[wrong]}, not {wrong}", AGAIN)
    if any(later < earlier for earlier, later in pairwise(keys)):
        return Problem(path, f"rows are not ordered by {SORT_KEYS[table]}", AGAIN)
    return None


def finished_problems(directory: Path, manifest: Mapping[str, Any]) -> Iterator[Problem]:
    """Everything that is wrong with the results of a finished run."""
    parts = [Part(**part) for part in manifest["parts"]]
    if sorted(part.table for part in parts) != sorted(TABLES):
        yield Problem(directory / "manifest.json", "does not name one part of every table", AGAIN)
    for part in parts:
        rows, problem = read_part(directory, part)
        path, expected = part.published(directory), manifest["hashes"].get(part.table)
        problem = problem or order_problem(path, part.table, rows)
        if problem is None and expected not in (None, table_hash(rows)):
            problem = Problem(path, "its rows do not have the hash in manifest.json", AGAIN)
        if problem:
            yield problem
    yield from model_problems(directory, manifest)
    success = directory / SUCCESS
    if success.is_file() and success.read_bytes() != success_bytes(manifest):
        yield Problem(success, "differs from manifest.json", "delete it and resume: it is written again")


def model_problems(directory: Path, manifest: Mapping[str, Any]) -> list[Problem]:
    """Whether the final model has the content hash in the manifest."""
    path = directory / MODEL
    try:
        intact = model_hash(load_tensors(path)) == manifest["hashes"]["model"]
    except FileNotFoundError:
        return [Problem(path, "missing", AGAIN)]
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        return [Problem(path, f"unreadable: {error}", AGAIN)]
    return [] if intact else [Problem(path, "damaged (not the model that manifest.json describes)", AGAIN)]

"""Whether a run that is going on, or was interrupted, can be continued: snapshots, blobs, committed parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from safetensors import SafetensorError

from fedrevive.results.files import sha256_file
from fedrevive.results.finished import Problem, order_problem, read_part
from fedrevive.results.schemas import TABLES
from fedrevive.results.snapshots import Document, Part, blob_path, document_files, document_path, documents
from fedrevive.results.tensors import load_tensors


def unfinished_problems(directory: Path) -> Iterator[Problem]:
    """Everything that is wrong with the resume state and the committed rows."""
    found = list(documents(directory))
    checked = _Checked(directory)
    intact = [document for document in found if not checked.problems(document)]
    remedy = (
        f"nothing to do: resume goes on from arrival {intact[0].arrivals}"
        if intact
        else "no snapshot is intact: run the experiment again in a new folder"
    )
    known = {document_path(directory, document.number) for document in found}
    for path in document_files(directory):
        if path not in known:
            yield Problem(path, "damaged (its checksum does not match)", remedy)
    told: set[Problem] = set()
    for document in found:
        for path, what in checked.problems(document):
            problem = Problem(path, what, remedy)
            if problem not in told:
                told.add(problem)
                yield problem
    named = {part.published(directory) for document in found for part in document.parts}
    if len(known) == len(document_files(directory)):  # a damaged one may name more
        yield from unnamed_parts(directory, named)


def unnamed_parts(directory: Path, named: set[Path]) -> Iterator[Problem]:
    """Files in the tables' folders that readers see and no commit names."""
    for table in TABLES:
        folder = directory / table
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if not path.name.startswith((".", "_")) and path not in named:
                yield Problem(path, f"is no part of {table}, but readers would take it for one", "remove it")


class _Checked:
    """Looks at every file once, however many snapshots name it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._blobs: dict[str, str] = {}
        self._parts: dict[Part, tuple[pa.Table, Problem | None]] = {}

    def problems(self, document: Document) -> list[tuple[Path, str]]:
        """Path and what is wrong, for every file that the document names and for its rows together."""
        found = [
            (blob_path(self._directory, digest), self._blob(digest)) for digest in sorted(document.blobs)
        ]
        tables: dict[str, pa.Table] = {}
        for table in TABLES:
            read = [self._part(part) for part in document.parts if part.table == table]
            found += [(problem.path, problem.what) for _, problem in read if problem]
            rows = pa.concat_tables([TABLES[table].empty_table(), *(rows for rows, _ in read)])
            problem = order_problem(self._directory / table, table, rows)
            found += [(problem.path, problem.what)] if problem else []
            tables[table] = rows
        uploads = tables["arrivals"].num_rows + tables["events"].column("kind").to_pylist().count("rejected")
        if uploads != document.arrivals and not any(what for _, what in found):
            path = document_path(self._directory, document.number)
            found.append((path, f"names {uploads} uploads, but {document.arrivals} had come in"))
        return [(path, what) for path, what in found if what]

    def _part(self, part: Part) -> tuple[pa.Table, Problem | None]:
        if part not in self._parts:
            self._parts[part] = read_part(self._directory, part)
        return self._parts[part]

    def _blob(self, digest: str) -> str:
        if digest not in self._blobs:
            self._blobs[digest] = _blob_damage(blob_path(self._directory, digest), digest)
        return self._blobs[digest]


def _blob_damage(path: Path, digest: str) -> str:
    if not path.is_file():
        return "missing"
    if sha256_file(path) != digest:
        return "damaged (its name is the sha256 it should have)"
    try:
        load_tensors(path)
    except (SafetensorError, ValueError) as error:
        return f"unreadable: {error}"
    return ""

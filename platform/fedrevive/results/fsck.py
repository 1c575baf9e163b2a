"""Verify a results folder: a run, or whatever holds runs (a comparison, a study, a search). Reads, never writes.

A run that is going on is judged by its committed snapshots; its lock is not taken. Files come and go meanwhile, so
what is wrong with it must be wrong at every one of several looks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from fedrevive.core.parquet_file import read_parquet
from fedrevive.results.comparison_folder import KIND, TABLE, sealed_problems
from fedrevive.results.files import environment_errors, is_temporary
from fedrevive.results.finished import AGAIN, SUCCESS, Problem, finished_problems
from fedrevive.results.folder import has_manifest
from fedrevive.results.lock import holder
from fedrevive.results.manifest import MANIFEST, read_manifest
from fedrevive.results.schemas import TABLES
from fedrevive.results.snapshots import BLOBS, SNAPSHOTS, Part, document_files
from fedrevive.results.unfinished import unfinished_problems, unnamed_parts
from fedrevive.settings.errors import ExitCode, UserError

_LOOKS, _PAUSE_SECONDS = 3, 0.2
_RUNS = "runs"


@dataclass
class Report:
    """What `check_folder` found."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is not damage: runs going on, interrupted or not begun, leftovers of an interruption."""
    runs: int = 0
    """Run folders looked at."""
    files: int = 0
    """Files in them, and beside them."""
    going_on: bool = False
    """Whether a process writes to any of the folders."""


KindCheck = Callable[[Path, Mapping[str, Any], Report], None]
"""Adds what is wrong, or to be done, with a folder of one kind beside its runs; is given folder and manifest."""
_COMPARISONS_ONLY: Mapping[str, KindCheck] = {}


def check_folder(directory: Path, kinds: Mapping[str, KindCheck] = _COMPARISONS_ONLY) -> Report:
    """Look at everything below `directory`.

    Args:
        directory: folder of a run, or of anything that holds runs.
        kinds: further checks, by the `kind` in a folder's manifest.

    Raises:
        UserError: exit code 2 when it is no results folder, 5 when it cannot be read.
    """
    with environment_errors(directory):
        report = _look(directory, kinds)
        looks = _LOOKS if report.going_on else 1
        for _ in range(looks - 1):
            if not report.problems:
                break
            time.sleep(_PAUSE_SECONDS)
            before, report = report.problems, _look(directory, kinds)
            report.problems = [problem for problem in report.problems if problem in before]
        report.files = sum(len(files) for _, _, files in os.walk(directory))
    return report


def _look(directory: Path, kinds: Mapping[str, KindCheck]) -> Report:
    report = Report()
    if not has_manifest(directory) and not _results_without_manifest(directory):
        read_manifest(directory)  # says that this is no results folder
    _check(directory, report, kinds)
    return report


def _check(directory: Path, report: Report, kinds: Mapping[str, KindCheck]) -> None:
    writer = holder(directory)  # first: nobody can end a run between the two
    try:
        manifest = read_manifest(directory)
    except UserError as error:
        damaged = error.exit_code == ExitCode.CORRUPT
        if not damaged and has_manifest(directory):
            raise
        what = "damaged or edited by hand" if damaged else "missing"
        report.problems.append(Problem(directory / MANIFEST, what, AGAIN))
        return
    try:
        if "run_id" in manifest:
            report.runs += 1
            report.problems += _run_problems(directory, manifest)
        else:
            _check_collection(directory, manifest, report, kinds)
        if writer is None:
            report.notes += _leftovers(directory, manifest, sound=not report.problems)
    except FileNotFoundError as error:
        report.problems.append(Problem(Path(error.filename), "missing", AGAIN))
    writer = writer or holder(directory)  # it may have come meanwhile
    if writer:
        report.going_on = True
        report.notes.append(f"{directory}: going on ({writer}); only what is committed was checked")


def _run_problems(directory: Path, manifest: Mapping[str, Any]) -> Iterator[Problem]:
    if "parts" not in manifest:
        yield from unfinished_problems(directory)
        return
    yield from finished_problems(directory, manifest)
    if (directory / SUCCESS).exists():
        parts = [Part(**part) for part in manifest["parts"]]
        yield from unnamed_parts(directory, {part.published(directory) for part in parts})
        for part in parts:
            if part.hidden(directory).exists():
                remedy = f"delete {SUCCESS} and resume: it is published again"
                yield Problem(part.hidden(directory), "is hidden from readers", remedy)


def _leftovers(directory: Path, manifest: Mapping[str, Any], *, sound: bool) -> Iterator[str]:
    """What the next start removes, or an interruption left to be done."""
    if "run_id" not in manifest:
        state: list[Path] = []
    elif (directory / SUCCESS).exists():
        state = [directory / name for name in (SNAPSHOTS, BLOBS) if (directory / name).exists()]
    else:
        finished = "parts" in manifest
        done = "all but the last files" if finished else f"{len(document_files(directory))} snapshots"
        remedy = f"; go on with: fedrevive resume {directory}" if sound else ""
        yield f"{directory}: not complete ({done}){remedy}"
        return
    folders = (directory, *(path for path in directory.iterdir() if path.is_dir() and not has_manifest(path)))
    temporary = [path for folder in folders for path in folder.iterdir() if is_temporary(path.name)]
    for path in (*temporary, *state):
        yield f"{path}: left by an interruption; the next resume removes it"


def _check_collection(
    directory: Path, manifest: Mapping[str, Any], report: Report, kinds: Mapping[str, KindCheck]
) -> None:
    report.problems += sealed_problems(directory)
    for path in sorted(directory.glob("*.parquet")):
        report.problems += _table_problems(directory, path)
    kind = manifest.get("kind", "")
    if kind in kinds:
        kinds[kind](directory, manifest, report)
    named = {entry["run_id"] for entry in manifest.get("entries", ())}
    folders = [path for path in (*directory.glob("*"), *directory.glob("*/*")) if _holds_results(path)]
    for folder in sorted(folders):
        if named and folder.name not in named:
            report.problems.append(Problem(folder, "is no run of this comparison", "move it elsewhere"))
        _check(folder, report, kinds)
        if folder.parent != directory and _manifest(folder).get("run_id", folder.name) != folder.name:
            identity = _manifest(folder)["run_id"]
            report.problems.append(Problem(folder, f"holds run {identity}", "rename or replace it"))
    missing = len(named - {folder.name for folder in folders})
    if kind == KIND and missing and not (directory / TABLE).exists():
        report.notes.append(
            f"{directory}: {missing} runs not begun; go on with: fedrevive resume {directory}"
        )


def _table_problems(directory: Path, path: Path) -> Iterator[Problem]:
    """A table about runs: readable, and in accordance with the runs it is about."""
    try:
        rows = read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        yield Problem(path, f"unreadable: {error}", "resume writes it again")
        return
    if path.name != TABLE:
        return
    for row in rows.to_pylist():
        folder = directory / _RUNS / row["run_id"]
        if not has_manifest(folder):
            yield Problem(folder, f"missing, though {TABLE} reports it", AGAIN)
            continue
        hashes = _manifest(folder).get("hashes", {})
        if any(hashes.get(name) != row[f"{name}_hash"] for name in ("arrivals", "evaluations", "model")):
            yield Problem(path, f"disagrees with run {row['run_id']}", "resume writes it again")


def _holds_results(folder: Path) -> bool:
    return folder.is_dir() and (has_manifest(folder) or _results_without_manifest(folder))


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        return read_manifest(folder)
    except UserError:  # reported where the folder itself is looked at
        return {}


def _results_without_manifest(directory: Path) -> bool:
    return any((directory / name).exists() for name in (*TABLES, SNAPSHOTS, SUCCESS, TABLE))

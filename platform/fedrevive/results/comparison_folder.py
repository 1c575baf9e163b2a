"""A comparison's folder: `manifest.json` says which runs it consists of; each lies below `runs/<run_id>`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrevive.results.files import commit_file, environment_errors, sha256_bytes, sha256_file, sync_folder
from fedrevive.results.finished import SUCCESS, Problem
from fedrevive.results.folder import drop_temporaries, has_manifest, make_folder, refuse_foreign
from fedrevive.results.lock import take_lock
from fedrevive.results.manifest import read_manifest, write_manifest
from fedrevive.results.schemas import SCHEMA_VERSION
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import UserError

KIND, STUDY = "comparison", "study"
TABLE = "comparison.parquet"


@dataclass(frozen=True)
class Entry:
    """One run of a comparison."""

    label: str
    config: ExperimentConfig
    run_id: str
    point: str = ""
    """Which configuration of the label's grid, as overrides; empty without a grid."""
    follows: str = ""
    """Label whose selected configuration a control takes; empty for a competitor with a choice of its own."""

    def folder(self, directory: Path) -> Path:
        """Its run folder."""
        return directory / "runs" / self.run_id


@contextmanager
def claimed(directory: Path, entries: Sequence[Entry], details: Mapping[str, Any]) -> Iterator[None]:
    """Make `directory` the folder of this comparison, or check that it is, and keep other writers out.

    Args:
        directory: the folder.
        entries: the runs.
        details: further JSON values for the manifest, such as the command.

    Raises:
        UserError: exit code 2 when it holds anything else, 4 when another process works in it, 5 when it cannot be
            written.
    """
    _make(directory)
    with writing(directory):
        if has_manifest(directory):
            _require_same(directory, read_manifest(directory), entries)
        else:
            write_manifest(directory, {"kind": KIND, **details, "entries": _listed(entries)})
        yield


@contextmanager
def claimed_study(
    directory: Path,
    comparisons: Mapping[str, Sequence[Entry]],
    details: Mapping[str, Any],
    described: Mapping[str, Any],
) -> Iterator[None]:
    """Make `directory` the folder of a study, with one comparison per setting, or check that it is; keep others out.

    Args:
        directory: the folder.
        comparisons: setting -> runs.
        details: further JSON values for all manifests, such as the command.
        described: what the study's own manifest needs to go on.

    Raises:
        UserError: exit code 2 when it holds anything else, 4 when another process works in it or in a comparison of
            it, 5 when it cannot be written.
    """
    _make(directory)
    with writing(directory):
        if not has_manifest(directory):
            write_manifest(directory, {"kind": STUDY, **details, **described})
        elif not is_kind(directory, STUDY):
            raise UserError(f"{directory}: holds no study; choose another output folder")
        for name, entries in comparisons.items():
            with claimed(directory / name, entries, details):
                pass
        yield


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Keep other writers out of the folder itself, and remove what an interruption left in it.

    Raises:
        UserError: exit code 4 naming the other writer, 5 when the folder cannot be used.
    """
    lock = take_lock(directory)
    try:
        with environment_errors(directory):
            drop_temporaries(directory)
        yield
    finally:
        os.close(lock)


def unseal(directory: Path) -> None:
    """The folder's own files are about to change."""
    with environment_errors(directory):
        if (directory / SUCCESS).exists():
            (directory / SUCCESS).unlink()
            sync_folder(directory)


def seal(directory: Path, names: Sequence[str]) -> None:
    """Write the sha256 of the folder's own files to `_SUCCESS`, for `fsck`. Raises `UserError` (exit code 5)."""
    with environment_errors(directory):
        files = {name: sha256_file(directory / name) for name in names}
    commit_file(directory / SUCCESS, _sealed(files))


def sealed_problems(directory: Path) -> Iterator[Problem]:
    """What differs from `_SUCCESS`; nothing when there is none."""
    path, remedy = directory / SUCCESS, "resume writes it again"
    if not path.exists():
        return
    raw = path.read_bytes()
    try:
        files = dict(json.loads(raw)["files"])
    except (ValueError, KeyError, TypeError):
        files = {}
    if raw != _sealed(files):
        yield Problem(path, "damaged (its checksum does not match)", remedy)
        return
    for name, digest in files.items():
        if not (directory / name).is_file():
            yield Problem(directory / name, "missing", remedy)
        elif sha256_file(directory / name) != digest:
            yield Problem(directory / name, f"damaged (sha256 differs from {SUCCESS})", remedy)


def _sealed(files: Mapping[str, str]) -> bytes:
    content = {"schema_version": SCHEMA_VERSION, "files": dict(files)}
    signed = {**content, "sha256": sha256_bytes(json.dumps(content).encode())}
    return json.dumps(signed).encode() + b"\n"


def is_kind(directory: Path, kind: str) -> bool:
    """Whether `directory` holds a `KIND` (comparison) or a `STUDY`."""
    return has_manifest(directory) and read_manifest(directory).get("kind") == kind


def _make(directory: Path) -> None:
    """Make the folder; first of all, because its lock lies in it. A manifest is written only under the lock."""
    with environment_errors(directory):
        refuse_foreign(directory)
        make_folder(directory)


def _listed(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    return [
        {
            "label": entry.label,
            "point": entry.point,
            "follows": entry.follows,
            "run_id": entry.run_id,
            "config": entry.config.model_dump(mode="json"),
        }
        for entry in entries
    ]


def _require_same(directory: Path, stored: Mapping[str, Any], entries: Sequence[Entry]) -> None:
    if stored.get("kind") != KIND:
        raise UserError(f"{directory}: holds a single run, not a comparison; choose another output folder")
    old = {(entry["label"], entry["run_id"]) for entry in stored["entries"]}
    new = {(entry.label, entry.run_id) for entry in entries}
    if old != new:
        label = min(old ^ new)[0]
        raise UserError(
            f"{directory}: holds another comparison (it differs in {label}); choose another output folder, or "
            f"finish it with: fedrevive resume {directory}"
        )

"""A comparison's folder: `manifest.json` says which runs it consists of; each lies below `runs/<run_id>`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrevive.results.files import environment_errors
from fedrevive.results.folder import has_manifest, make_folder, refuse_foreign
from fedrevive.results.manifest import read_manifest, write_manifest
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


def claim(directory: Path, entries: Sequence[Entry], details: Mapping[str, Any]) -> None:
    """Make `directory` the folder of this comparison, or check that it is.

    Args:
        directory: the folder.
        entries: the runs.
        details: further JSON values for the manifest, such as the command.

    Raises:
        UserError: exit code 2 when it holds anything else, 5 when it cannot be written.
    """
    with environment_errors(directory):
        refuse_foreign(directory)
        if has_manifest(directory):
            _require_same(directory, read_manifest(directory), entries)
            return
        make_folder(directory)
    listed = [
        {
            "label": entry.label,
            "point": entry.point,
            "follows": entry.follows,
            "run_id": entry.run_id,
            "config": entry.config.model_dump(mode="json"),
        }
        for entry in entries
    ]
    write_manifest(directory, {"kind": KIND, **details, "entries": listed})


def claim_study(
    directory: Path,
    comparisons: Mapping[str, Sequence[Entry]],
    details: Mapping[str, Any],
    described: Mapping[str, Any],
) -> None:
    """Make `directory` the folder of a study, with one comparison per setting, or check that it is.

    Args:
        directory: the folder.
        comparisons: setting -> runs.
        details: further JSON values for all manifests, such as the command.
        described: what the study's own manifest needs to go on.

    Raises:
        UserError: exit code 2 when it holds anything else, 5 when it cannot be written.
    """
    with environment_errors(directory):
        refuse_foreign(directory)
        if not has_manifest(directory):
            make_folder(directory)
            write_manifest(directory, {"kind": STUDY, **details, **described})
        elif not is_kind(directory, STUDY):
            raise UserError(f"{directory}: holds no study; choose another output folder")
    for name, entries in comparisons.items():
        claim(directory / name, entries, details)


def is_kind(directory: Path, kind: str) -> bool:
    """Whether `directory` holds a `KIND` (comparison) or a `STUDY`."""
    return has_manifest(directory) and read_manifest(directory).get("kind") == kind


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

"""What `fedrevive fsck` looks at in a search's folder beside its runs: the records of the trials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fedrevive.results.finished import Problem
from fedrevive.results.folder import has_manifest
from fedrevive.results.fsck import Report
from fedrevive.results.store import is_complete
from fedrevive.settings.errors import UserError
from fedrevive_tuning.folder import RECORDS, SCRATCH, SearchFolder, TrialRecord


def check_records(directory: Path, manifest: Mapping[str, Any], report: Report) -> None:
    """Are the records undamaged, and do the runs bear them out? (a `KindCheck` of `results.fsck`)"""
    folder, done_or_damaged = SearchFolder(directory), 0
    for path in sorted((directory / RECORDS).glob("[0-9]*.json")):
        try:
            record = folder.record(int(path.stem))
        except UserError:
            remedy = "delete it and resume: its trial is looked up in its runs"
            done_or_damaged += 1
            report.problems.append(Problem(path, "damaged (its checksum does not match)", remedy))
            continue
        if record is not None:
            done_or_damaged += record.done
            report.problems += _contradictions(folder, record, path)
    if done_or_damaged < manifest["number"]:
        left = f"{manifest['number'] - done_or_damaged} of {manifest['number']} trials are not done"
        report.notes.append(f"{directory}: {left}; go on with: fedrevive resume {directory}")
    if (directory / SCRATCH).exists():
        report.notes.append(f"{directory / SCRATCH}: of a search that goes on, or removed by the next resume")


def _contradictions(folder: SearchFolder, record: TrialRecord, path: Path) -> Iterator[Problem]:
    """Runs that are not as far as their trial's record says."""
    if record.status not in ("complete", "stopped"):
        return
    for run in map(folder.run, record.run_ids):
        if not has_manifest(run):
            what = f"missing, though trial {record.number} is {record.status}"
        elif record.status == "complete" and not is_complete(run):
            what = f"not complete, though trial {record.number} is"
        else:
            continue
        yield Problem(run, what, f"delete {path} and resume: what is missing is run again")

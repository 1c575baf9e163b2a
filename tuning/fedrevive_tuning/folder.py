"""A search's folder: `manifest.json` holds the plan, `trials/<n>.json` how far trial n is, `runs/<run_id>/` its runs.

The plan and the records are all that a search goes on from; what Ray Tune writes lies in `.tune`, is never read and
is thrown away. Every file is written whole or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fedrevive.results.files import commit_file, environment_errors
from fedrevive.results.folder import drop_temporaries, has_manifest, make_folder, refuse_foreign
from fedrevive.results.lock import take_lock
from fedrevive.results.manifest import read_manifest, signed_json, verified_json, write_manifest
from fedrevive.settings.errors import ExitCode, UserError
from fedrevive_tuning.spaces import Point

if TYPE_CHECKING:
    from fedrevive_tuning.definition import Search

KIND = "search"
RECORDS, RUNS, PREFIXES, SCRATCH, TABLE = "trials", "runs", "prefixes", ".tune", "trials.parquet"
Status = Literal["running", "complete", "stopped", "failed"]


@dataclass(frozen=True)
class TrialRecord:
    """One trial as the search knows it."""

    number: int
    values: Point
    run_ids: tuple[str, ...]
    """One per seed."""
    status: Status = "running"
    """running: begun or interrupted; stopped: ended early by the scheduler; failed: see `error`."""
    error: str = ""
    """One line; also of a failure that is tried again."""
    lost: bool = False
    """Whether it once failed because its process died or the machine was at fault: a resumed search tries it again,
    while optuna, which was told of the failure, is told the same again."""

    @property
    def done(self) -> bool:
        """Whether nothing is left to run in this session."""
        return self.status != "running"


@dataclass(frozen=True)
class SearchFolder:
    """Reads and writes one search's folder; claimed by one process at a time."""

    directory: Path

    @property
    def manifest(self) -> dict[str, Any]:
        """The plan. Raises `UserError` as `read_manifest`."""
        return read_manifest(self.directory)

    def manifest_of(self, search: Search) -> dict[str, Any]:
        """The plan, which must be that of `search` made by this version of the package.

        Raises:
            UserError: exit code 2 naming the first difference.
        """
        stored = require_search(self.directory)
        if stored["identity"] != search.identity():
            old, new = _flat(stored["document"]), _flat(search.document())
            key = next((key for key in new if old.get(key) != new[key]), "the version of fedrevive")
            raise UserError(
                f"{self.directory}: holds another search (it differs in {key}); choose another output folder, or "
                f"finish it with: fedrevive resume {self.directory}"
            )
        return stored

    def run(self, run_id: str) -> Path:
        """The folder of one run."""
        return self.directory / RUNS / run_id

    def record(self, number: int) -> TrialRecord | None:
        """What is known of trial `number`; None before it was handed out.

        Raises:
            UserError: exit code 3 for a file that is damaged.
        """
        path = self._path(number)
        try:
            content = verified_json(path.read_bytes())
            return TrialRecord(**{**content, "run_ids": tuple(content["run_ids"])})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{path}: damaged or edited by hand: {error}", exit_code=ExitCode.CORRUPT
            ) from error

    def write(self, record: TrialRecord) -> None:
        """Make `record` the state of its trial. Raises `UserError` (exit code 5)."""
        commit_file(self._path(record.number), signed_json(asdict(record)))

    def update(self, number: int, status: Status, error: str = "") -> TrialRecord:
        """Change the state of a trial that was handed out; returns its new record."""
        record = self.record(number)
        assert record is not None
        record = replace(record, status=status, error=error)
        self.write(record)
        return record

    def records(self) -> list[TrialRecord]:
        """All trials handed out so far, in order."""
        numbers = sorted(int(path.stem) for path in (self.directory / RECORDS).glob("[0-9]*.json"))
        return [record for number in numbers if (record := self.record(number)) is not None]

    @property
    def scratch(self) -> Path:
        """Ray Tune's files and the requests to stop, absolute; means nothing to the next session."""
        return self.directory.absolute() / SCRATCH

    @property
    def prefixes(self) -> Path:
        """Runs that trials start from."""
        return self.directory / PREFIXES

    def request_stop(self, number: int | None = None) -> None:
        """Ask trial `number`, or all of them, to save and end."""
        self._request(number).touch()

    def stop_requested(self, number: int | None = None) -> bool:
        """Whether `request_stop` was called with `number` in this session."""
        return self._request(number).exists()

    @contextmanager
    def claimed(self, manifest: Mapping[str, Any]) -> Iterator[None]:
        """Create the folder, or check that it holds this plan, and keep other processes out; lost trials may run again.

        Raises:
            UserError: exit code 2 when it holds anything else, 4 when another process works in it, 5 when it cannot be
                written.
        """
        with environment_errors(self.directory):
            refuse_foreign(self.directory)
            make_folder(self.directory)
        lock = take_lock(self.directory)
        try:
            if has_manifest(self.directory) and self.manifest.get("identity") != manifest["identity"]:
                raise UserError(f"{self.directory}: holds something else; choose another output folder")
            with environment_errors(self.directory):
                drop_temporaries(self.directory)
                if not has_manifest(
                    self.directory
                ):  # first: a folder with anything else in it would be refused
                    write_manifest(self.directory, manifest)
                for folder in (self.directory / RECORDS, self.directory / RUNS):
                    make_folder(folder)
                    drop_temporaries(folder)
                shutil.rmtree(self.scratch, ignore_errors=True)
                make_folder(self.scratch)
            self._reopen()
            yield
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)
            os.close(lock)

    def _reopen(self) -> None:
        """Let trials run again that were lost to the machine."""
        for record in self.records():
            if record.status == "failed" and record.lost:
                self.update(record.number, "running")

    def _path(self, number: int) -> Path:
        return self.directory / RECORDS / f"{number:05d}.json"

    def _request(self, number: int | None) -> Path:
        return self.scratch / ("stop" if number is None else f"stop-{number}")


def is_search(directory: Path) -> bool:
    """Whether `directory` holds a search."""
    return has_manifest(directory) and read_manifest(directory).get("kind") == KIND


def require_search(directory: Path) -> dict[str, Any]:
    """The manifest of a search folder. Raises `UserError` (exit code 2) for any other folder."""
    manifest = read_manifest(directory)
    if manifest.get("kind") != KIND:
        raise UserError(f"{directory}: holds a {manifest.get('kind', 'folder')}, not a search")
    return manifest


def _flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """A search's document, as JSON gives it back, by what a user would call its parts."""
    plain = json.loads(json.dumps(document))
    parts = {f"search.{name}": value for name, value in plain["search"].items()}
    return {**parts, "overrides": plain["overrides"], "experiment": plain["text"]}

"""The table of a search, from its folder alone: one row per trial and seed, one typed column per searched path."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fedrevive import __version__
from fedrevive.core.target import target_of, window
from fedrevive.results.files import commit_file
from fedrevive.results.folder import has_manifest
from fedrevive.results.manifest import read_manifest
from fedrevive.results.reading import read_table
from fedrevive.results.schemas import NANOSECONDS_PER_UNIT, SCHEMA_VERSION
from fedrevive.results.snapshots import documents
from fedrevive.results.store import is_complete
from fedrevive.results.tables import parquet_bytes, summary, table_from_rows
from fedrevive.settings.errors import ExitCode, UserError
from fedrevive.settings.loading import with_compute
from fedrevive_tuning.folder import TABLE, SearchFolder, TrialRecord, require_search

NEVER = 2.0
"""A run that never reaches its target counts as so many whole runs (PAR-2, as in algorithm configuration; ours)."""

_TYPES = {"int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_(), "string": pa.string()}
_I, _F, _S, _B = _TYPES["int64"], _TYPES["float64"], _TYPES["string"], _TYPES["bool"]
_REQUIRED = (
    ("trial", _I, "count", "number of the configuration in the plan"),
    ("seed", _I, "seed", "seed of the run"),
    (
        "status",
        _S,
        "name",
        "complete, stopped (early, by the scheduler), failed (see error) or running (unfinished)",
    ),
    ("run_id", _S, "id", "run id: the folder below runs/"),
)
_NULLABLE = (
    ("objective", _F, "objective", "this seed's objective, on the validation part"),
    (
        "objective_censored",
        _B,
        "flag",
        "objective time_to_target: never reached, so that the objective is twice the time of a whole run",
    ),
    ("score", _F, "objective", "the trial's: mean objective over its seeds"),
    ("final_accuracy", _F, "share", "mean of the last 10 test accuracies"),
    ("validation_accuracy", _F, "share", "mean of the last 10 validation accuracies"),
    ("auc", _F, "share", "time-average of the test accuracy"),
    (
        "time_to_target",
        _F,
        "units",
        "virtual time until the moving average of test accuracy reached the target",
    ),
    ("censored", _B, "flag", "a target was set and the run ended before it was reached"),
    ("virtual_time", _F, "units", "virtual time reached"),
    ("arrivals", _I, "count", "uploads accepted"),
    ("versions", _I, "versions", "last server version"),
    (
        "wall_seconds",
        _F,
        "s",
        "real time from the run's start to its end, in which the other seeds of the trial may have taken turns",
    ),
    ("client_flops", _F, "FLOP", "sum over all accepted uploads"),
    ("server_flops", _F, "FLOP", "sum over all server steps"),
    ("error", _S, "text", "why the trial failed, in one line"),
)


def trials_schema(columns: Mapping[str, str]) -> pa.Schema:
    """Schema of the table; `columns` maps every searched path to int64, float64, bool or string."""
    fixed = [_field(*column, nullable=False) for column in _REQUIRED]
    measured = [_field(*column, nullable=True) for column in _NULLABLE]
    searched = [
        _field(
            path,
            _TYPES[kind],
            "value",
            "searched; null where the trial's branch does not have it",
            nullable=True,
        )
        for path, kind in columns.items()
    ]
    metadata = {"schema_version": SCHEMA_VERSION, "platform_version": __version__}
    return pa.schema([*fixed, *measured, *searched], metadata=metadata)


def trials_table(directory: Path) -> pa.Table:
    """All trials handed out so far, also of a search that is unfinished or still running; needs neither Ray nor torch.

    Raises:
        UserError: exit code 2 when `directory` holds no search, 3 when it is damaged.
    """
    manifest = require_search(directory)
    folder = SearchFolder(directory)
    rows = [row for record in folder.records() for row in trial_rows(folder, manifest, record)]
    return table_from_rows(trials_schema(manifest["columns"]), rows)


def write_trials(directory: Path) -> pa.Table:
    """Write `trials.parquet` and return its content. Raises `UserError` as `trials_table`, or exit code 5."""
    table = trials_table(directory)
    commit_file(directory / TABLE, parquet_bytes(table))
    return table


def trial_rows(
    folder: SearchFolder, manifest: Mapping[str, Any], record: TrialRecord
) -> list[dict[str, Any]]:
    """One row per seed, in the order of the seeds; without results for a failed trial and one with damaged files."""
    seeds = manifest["document"]["search"]["seeds"]
    values = {path: _cell(record.values.get(path), kind) for path, kind in manifest["columns"].items()}
    try:
        failed = record.status == "failed"
        measured = [
            {"objective": None} if failed else _measured(folder.run(identity), manifest)
            for identity in record.run_ids
        ]
    except UserError as error:
        if error.exit_code != ExitCode.CORRUPT:
            raise
        record = replace(record, status="failed", error=str(error))
        measured = [{"objective": None} for _ in record.run_ids]
    rows: list[dict[str, Any]] = [
        {
            "trial": record.number,
            "seed": seed,
            "status": record.status,
            "error": record.error if record.status == "failed" else None,
            "run_id": identity,
            **achieved,
            **values,
        }
        for seed, identity, achieved in zip(seeds, record.run_ids, measured, strict=True)
    ]
    objectives = [row["objective"] for row in rows]
    scored = record.status in ("complete", "stopped") and None not in objectives
    for row in rows:
        row["score"] = fmean(objectives) if scored else None
        row["objective"] = row["objective"] if scored else None
    return rows


def score(folder: SearchFolder, manifest: Mapping[str, Any], record: TrialRecord) -> float | None:
    """Mean objective of a trial's seeds; None for one that failed."""
    found: float | None = trial_rows(folder, manifest, record)[0]["score"]
    return found


def _measured(run: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a run achieved, or has committed so far."""
    evaluations = read_table(run, "evaluations") if has_manifest(run) else None
    if evaluations is None or not evaluations.num_rows:
        return {"objective": None}
    stored = read_manifest(run)
    arrivals = read_table(run, "arrivals")
    end = pc.max(evaluations["virtual_time"]).as_py()
    end = max(end, pc.max(arrivals["accepted_at"]).as_py() or 0)
    config = with_compute(stored["config"], {})
    target = target_of(config)
    size = window(config)
    test = summary(evaluations, target_accuracy=target, end_time_ns=end, window=size)
    chosen = summary(evaluations, target_accuracy=target, end_time_ns=end, window=size, split="validation")
    return {
        **_objective(manifest, chosen),
        "final_accuracy": test["final_accuracy"],
        "validation_accuracy": chosen["final_accuracy"],
        "auc": test["auc"],
        "time_to_target": test["time_to_target"],
        "censored": None if target is None else test["time_to_target"] is None,
        "virtual_time": end / NANOSECONDS_PER_UNIT,
        "arrivals": arrivals.num_rows,
        "versions": pc.max(arrivals["new_version"]).as_py() or 0,
        "wall_seconds": _wall_seconds(run, stored),
        "client_flops": pc.sum(arrivals["client_flops"]).as_py(),
        "server_flops": pc.sum(arrivals["server_flops"]).as_py(),
    }


def _objective(manifest: Mapping[str, Any], validation: Mapping[str, float | None]) -> dict[str, Any]:
    name = manifest["document"]["search"]["objective"]
    if name != "time_to_target":
        return {"objective": validation[name]}
    never = validation[name] is None
    return {
        "objective": float(NEVER * manifest["horizon"]) if never else validation[name],
        "objective_censored": never,
    }


def _wall_seconds(run: Path, stored: Mapping[str, Any]) -> float | None:
    if is_complete(run):
        return float(stored["summary"]["wall_seconds"])
    newest = next(documents(run), None)
    return None if newest is None else float(newest.state["wall_seconds"])


def _cell(value: Any, kind: str) -> Any:
    """A searched value as its column holds it; in a column of mixed values as JSON gives it, texts as they are."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value) if kind == "string" else value


def _field(name: str, kind: pa.DataType, unit: str, description: str, *, nullable: bool) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"unit": unit, "description": description})

"""`fedrevive export`: a table of a run, a comparison or a search as one file; neither torch nor Ray is needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedrevive.cli.option_values import usable_path
from fedrevive.settings.errors import ExitCode, UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from fedrevive.results.export import KeyedRun

TABLES = ("trials", "comparison", "evaluations", "arrivals", "events")


class Kind(StrEnum):
    """What a results folder holds."""

    RUN = "run"
    COMPARISON = "comparison"
    SEARCH = "search"

    @property
    def tables(self) -> tuple[str, ...]:
        """What can be exported from it, the default first."""
        summary = {Kind.COMPARISON: ("comparison",), Kind.SEARCH: ("trials",)}.get(self, ())
        return (*summary, "evaluations", "arrivals", "events")


def export(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A run's, a comparison's or a search's folder.", callback=usable_path
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="File to write; an old one is replaced.",
            callback=usable_path,
        ),
    ],
    table: Annotated[
        str | None,
        typer.Option(
            "--table",
            metavar="|".join(TABLES),
            help="Default: trials of a search, comparison of a comparison, evaluations of a run.",
        ),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Write CSV instead of Parquet.")] = False,
) -> None:
    """Write one table as one file, also of what is unfinished, crashed or still running.

    evaluations, arrivals and events hold the committed rows of all runs below DIR, with columns that name the run.

    Example: fedrevive export results/tune-digits-01234567 -o trials.csv --csv
    """
    if table is not None and table not in TABLES:
        raise UserError(f"--table: '{table}' is unknown; choose {', '.join(TABLES)}")
    kind = _kind(directory)
    chosen = table or kind.tables[0]
    if chosen not in kind.tables:
        raise UserError(f"--table: a {kind} has no table '{chosen}'; it has {', '.join(kind.tables)}")
    path = _checked_output(output, directory, as_csv)
    from fedrevive.results.export import joined_rows, joined_schema, write_export

    damaged: list[str] = []
    if chosen in ("trials", "comparison"):
        whole = _comparison(directory) if chosen == "comparison" else _trials(directory)
        rows = write_export(path, whole.schema, [whole], as_csv=as_csv)
    else:
        keys, runs = _runs(directory, kind)
        report = (lambda _, error: damaged.append(str(error))) if kind is Kind.SEARCH else None
        read = joined_rows(chosen, runs, keys, report)
        rows = write_export(path, joined_schema(chosen, keys), read, as_csv=as_csv)
        for reason in damaged:
            print(f"left out: {reason}", file=sys.stderr)
    print(f"{output}: {chosen}, {rows:,} row{'s' * (rows != 1)}")
    if damaged:
        raise typer.Exit(ExitCode.CORRUPT)


def _kind(directory: Path) -> Kind:
    from fedrevive.results.manifest import read_manifest

    kind = read_manifest(directory).get("kind", "folder of another kind")
    if kind not in list(Kind):
        raise UserError(f"{directory}: holds a {kind}; export takes a run, a comparison or a search")
    return Kind(kind)


def _checked_output(output: Path, directory: Path, as_csv: bool) -> Path:
    """Where `-o` leads, links followed.

    Raises:
        UserError: nothing may be written there, or the name says CSV and the content would be Parquet or the reverse.
    """
    path = Path(os.path.realpath(output))
    if path.exists() and not path.is_file():
        raise UserError(f"-o: {output} is {'a folder' if path.is_dir() else 'no ordinary file'}; name a file")
    if not path.parent.is_dir():
        raise UserError(f"-o: the folder {output.parent} does not exist; create it or choose another one")
    if path.is_relative_to(os.path.realpath(directory)):
        raise UserError(f"-o: {output} lies inside the results folder; choose a place outside it")
    suffix = path.suffix.lower()
    if suffix == ".csv" and not as_csv:
        raise UserError(f"-o: {output} would hold Parquet; add --csv or name it .parquet")
    if suffix == ".parquet" and as_csv:
        raise UserError(f"-o: {output} would hold CSV; leave out --csv or name it .csv")
    return path


def _trials(directory: Path) -> pa.Table:
    """One row per trial and seed of a search, as far as it has come."""
    from fedrevive_tuning.table import trials_table

    return trials_table(directory)


def _comparison(directory: Path) -> pa.Table:
    """One row per run of a comparison.

    Raises:
        UserError: it is not finished: targets and selected configurations are known only at its end.
    """
    from fedrevive.results.tables import read_runs

    path = directory / "comparison.parquet"
    if not path.exists():
        raise UserError(
            f"{directory}: the comparison is not finished and has no table 'comparison'; finish it with: "
            f"fedrevive resume {directory}, or export --table evaluations"
        )
    return read_runs(path)


def _runs(directory: Path, kind: Kind) -> tuple[pa.Schema, Iterator[KeyedRun]]:
    """The columns that name a run, and every run that has begun, in the order of the folder's own table."""
    import pyarrow as pa

    from fedrevive.results.export import KeyedRun
    from fedrevive.results.folder import has_manifest
    from fedrevive.results.manifest import read_manifest
    from fedrevive.results.schemas import RUNS

    stored = read_manifest(directory)
    rows: list[dict[str, Any]]
    if kind is Kind.RUN:
        names = [RUNS.field("label")]
        rows = [{**stored, "label": stored["config"]["algorithm"]["name"]}]
    elif kind is Kind.COMPARISON:
        names = [RUNS.field("label"), RUNS.field("configuration")]
        rows = [
            {**entry, "configuration": entry["point"], "seed": entry["config"]["seed"]}
            for entry in stored["entries"]
        ]
    else:
        names, rows = _trials_runs(directory)
    keys = pa.schema([*names, RUNS.field("seed"), RUNS.field("run_id")])
    folders = (directory if kind is Kind.RUN else directory / "runs" / row["run_id"] for row in rows)
    runs = (KeyedRun(folder, row) for folder, row in zip(folders, rows, strict=True) if has_manifest(folder))
    return keys, runs


def _trials_runs(directory: Path) -> tuple[list[pa.Field], list[dict[str, Any]]]:
    """As `trials_table` lists them, without a look at what they achieved."""
    from fedrevive_tuning.folder import SearchFolder
    from fedrevive_tuning.table import trials_schema

    folder = SearchFolder(directory)
    seeds = folder.manifest["document"]["search"]["seeds"]
    rows = [
        {"trial": record.number, "seed": seed, "run_id": run_id}
        for record in folder.records()
        for seed, run_id in sorted(zip(seeds, record.run_ids, strict=True))
    ]
    return [trials_schema({}).field("trial")], rows

"""`fedrevive study`, and how `fedrevive resume` goes on with a study."""

from __future__ import annotations

import json
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedrevive.cli.compare import carry_out, check, to_do
from fedrevive.cli.competitors import Competitors, competing
from fedrevive.cli.run import (
    AddressOption,
    DownloadOption,
    ExecutorOption,
    JsonOption,
    OutputOption,
    WorkersOption,
    compute_flags,
)
from fedrevive.settings.errors import UserError
from fedrevive.settings.loading import split_words
from fedrevive.settings.study import StudySettings, checked_study, load_study, study_names

if TYPE_CHECKING:
    from fedrevive.cli.preflight import Offer
    from fedrevive.comparison import Outcome
    from fedrevive.results.comparison_folder import Entry

SOURCE_HELP = f"A study ({', '.join(study_names())}) or a YAML file, then overrides for all of its settings."


def study(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="STUDY|FILE [a.b=c ...]", help=SOURCE_HELP)
    ] = None,
    executor: ExecutorOption = None,
    workers: WorkersOption = None,
    output: OutputOption = None,
    download: DownloadOption = False,
    as_json: JsonOption = False,
    address: AddressOption = None,
) -> None:
    """Compare the same algorithms in several settings.

    Example: fedrevive study who_wins_where --download
    """
    from fedrevive.cli import preflight
    from fedrevive.results.comparison_folder import claimed_study

    source, overrides = split_words(arguments or [])
    if source is None:
        raise UserError(f"no study: name one ({', '.join(study_names())}) or a YAML file")
    asked = load_study(source)
    flags = compute_flags(executor, workers)
    comparisons = _comparisons(asked, overrides, flags)
    ids = "".join(entry.run_id for entries in comparisons.values() for entry in entries)
    folder = Path(output or f"results/study-{asked.name}-{sha256(ids.encode()).hexdigest()[:8]}")
    given = preflight.offer(address, folder)
    _check(folder, comparisons, download, given)
    details = {"command": preflight.command_line(), "created_at": time.time()}
    described = {"study": asked.model_dump(mode="json"), "overrides": overrides, "flags": flags}
    with claimed_study(folder, comparisons, details, described):
        _carry_out(folder, comparisons, given, download=download, as_json=as_json)


def resume_study(
    folder: Path, flags: dict[str, Any], *, address: str | None, download: bool, as_json: bool
) -> None:
    """Finish the comparisons of a study that are not complete."""
    from fedrevive.cli import preflight
    from fedrevive.results.comparison_folder import claimed_study
    from fedrevive.results.manifest import read_manifest

    stored = read_manifest(folder)
    asked = checked_study(stored["study"], {})
    comparisons = _comparisons(asked, stored["overrides"], stored["flags"] | flags)
    given = preflight.offer(address, folder)
    _check(folder, comparisons, download, given)
    details = {name: stored[name] for name in ("command", "created_at")}
    with claimed_study(folder, comparisons, details, {}):
        _carry_out(folder, comparisons, given, download=download, as_json=as_json)


def _comparisons(asked: StudySettings, overrides: list[str], flags: dict[str, Any]) -> dict[str, list[Entry]]:
    """The runs of every setting."""
    competitors = Competitors(asked.algorithms, asked.controls, asked.seeds, place="")
    found = {}
    for name, words in asked.settings.items():
        try:
            experiment, own = split_words(words.split())
            found[name] = competing(experiment, [*asked.common.split(), *own, *overrides], competitors, flags)
        except UserError as error:
            place = error.place or f"settings.{name}"
            raise UserError(error.message, place=place, more=error.more, exit_code=error.exit_code) from None
    return found


def _check(folder: Path, comparisons: dict[str, list[Entry]], download: bool, given: Offer) -> None:
    for name, entries in comparisons.items():
        check(to_do(folder / name, entries), download, given)


def _carry_out(
    folder: Path, comparisons: dict[str, list[Entry]], given: Offer, *, download: bool, as_json: bool
) -> None:
    from fedrevive.results.comparison_folder import writing
    from fedrevive.results.study_tables import REPORT, TABLE, write_study

    outcomes: dict[str, Outcome] = {}
    for name, entries in comparisons.items():
        print(f"setting {name} ({len(outcomes) + 1} of {len(comparisons)})", file=sys.stderr, flush=True)
        with writing(folder / name):
            outcomes[name] = carry_out(folder / name, entries, given, download=download, go_on=folder)
    targets = {name: outcome.target for name, outcome in outcomes.items()}
    report = write_study(folder, targets)
    if as_json:
        rows = {name: outcome.rows for name, outcome in outcomes.items()}
        print(json.dumps({"dir": str(folder), "targets": targets, "rows": rows}))
    else:
        print(report)
        print(f"table {folder / TABLE}\nreport {folder / REPORT}")

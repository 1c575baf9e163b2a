"""`fedrevive fsck`: is everything in a results folder what was once written?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fedrevive.cli.option_values import usable_path
from fedrevive.cli.run import JsonOption
from fedrevive.settings.errors import ExitCode


def fsck(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Folder of a run, a comparison, a study or a search.", callback=usable_path
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Verify checksums, tables, model and resume state; changes nothing, also beside a run that is going on.

    Example: fedrevive fsck results/digits-0123456789abcdef
    """
    from fedrevive.results.fsck import check_folder
    from fedrevive_tuning.folder import KIND
    from fedrevive_tuning.verification import check_records

    report = check_folder(directory, {KIND: check_records})
    if as_json:
        problems = [
            {"file": str(problem.path), "problem": problem.what, "remedy": problem.remedy}
            for problem in report.problems
        ]
        counts = {"runs": report.runs, "files": report.files}
        print(json.dumps({"dir": str(directory), **counts, "problems": problems, "notes": report.notes}))
    else:
        for line in (*report.problems, *report.notes):
            print(line)
        problems_found = _counted(len(report.problems), "problem") if report.problems else "no problem"
        print(
            f"{directory}: {_counted(report.runs, 'run')}, {_counted(report.files, 'file')}: {problems_found}"
        )
    if report.problems:
        raise typer.Exit(ExitCode.CORRUPT)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"

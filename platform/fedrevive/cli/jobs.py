"""`--submit`, and `fedrevive status`, `logs` and `stop`: commands as jobs of a Ray cluster."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedrevive.cli.run import JsonOption
from fedrevive.settings.errors import UserError, shown

if TYPE_CHECKING:
    from fedrevive_clusters.submission import JobBoard
    from fedrevive_tuning.definition import Search

SubmitOption = Annotated[
    str | None,
    typer.Option(
        "--submit",
        metavar="URL",
        help="Run in the cluster behind this dashboard, such as http://127.0.0.1:8265.",
    ),
]
DashboardOption = Annotated[str, typer.Option("--dashboard", metavar="URL", help="The cluster's dashboard.")]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Number that --submit printed.")]
_URL = "http://127.0.0.1:8265"


def status(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="One of them; all by default.")] = None,
    dashboard: DashboardOption = _URL,
    as_json: JsonOption = False,
) -> None:
    """What became of the jobs of a cluster.

    Example: fedrevive status
    """
    board = _board(dashboard)
    found = board.jobs() if job is None else [board.job(job)]
    if as_json:
        print(json.dumps({"jobs": [vars(one) for one in found]}))
        return
    for one in found:
        print(f"{one.number}  {one.status:<9}  {one.command}")
    if not found:
        print("no job was submitted")


def logs(
    job: JobArgument,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the job ends.")] = False,
    dashboard: DashboardOption = _URL,
) -> None:
    """Print what a job has written; with --follow, return its exit code.

    Example: fedrevive logs raysubmit_0123456789abcdef --follow
    """
    board = _board(dashboard)
    if follow:
        raise typer.Exit(_followed(board, job))
    print(board.logs(job), end="")


def stop(job: JobArgument, dashboard: DashboardOption = _URL) -> None:
    """Ask a job to save and end; the same command as before goes on with it.

    Example: fedrevive stop raysubmit_0123456789abcdef
    """
    stopped = _board(dashboard).stop(job)
    print(f"{job}: asked to stop" if stopped else f"{job}: had ended before")


def submit_search(url: str, source: str, search: Search, options: Mapping[str, str | int | None]) -> int:
    """Run `fedrevive tune` in a cluster, print what it writes, and return its exit code.

    Args:
        url: the cluster's dashboard.
        source: name or file of the search, as typed.
        search: what is in it.
        options: of the command, without those that say where it runs.

    Raises:
        UserError: exit code 2, the results have no place in the cluster; else as `JobBoard`.
    """
    from fedrevive_tuning.definition import search_files

    output = options["--output"]
    if not isinstance(output, str) or not Path(output).is_absolute():
        raise UserError(
            f"--output: {shown(output)} is no absolute folder; with --submit, name one that all nodes share"
        )
    named, files = search_files(source, search)
    return _submitted(url, ["tune", named, *_words(options), "--address", "auto"], files)


def _words(options: Mapping[str, str | int | None]) -> list[str]:
    """Options as typed; True = a flag that was given."""
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    return [
        word for name, value in given.items() for word in ([name] if value is True else [name, str(value)])
    ]


def _submitted(url: str, words: Sequence[str], files: Mapping[str, bytes]) -> int:
    from fedrevive_clusters.submission import JobBoard

    board = JobBoard(url, "--submit")
    number = board.submit(words, files)
    print(
        f"job {number}; it goes on without this command: fedrevive logs|stop {number}",
        file=sys.stderr,
        flush=True,
    )
    return _followed(board, number)


def _followed(board: JobBoard, number: str) -> int:
    board.follow(number, lambda text: print(text, end="", flush=True))
    return board.exit_code(number)


def _board(dashboard: str) -> JobBoard:
    from fedrevive_clusters.submission import JobBoard

    return JobBoard(dashboard, "--dashboard")

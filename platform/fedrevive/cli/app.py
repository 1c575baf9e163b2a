"""The commands of `fedrevive`, and the one place where an error becomes a line and an exit code.

Nothing imported here may import torch, ray, sklearn or pyarrow: a mistyped option must be answered at once.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

from fedrevive import __version__
from fedrevive.cli import (
    bench,
    cluster,
    compare,
    config,
    data,
    diagnose,
    export,
    fsck,
    jobs,
    plan,
    replay,
    run,
    study,
    trace,
    tune,
)
from fedrevive.settings.errors import LINE_LIMIT, PREFIX, ExitCode, UserError, one_line

app = typer.Typer(
    name="fedrevive",
    help="Asynchronous federated learning experiments whose timeline is a pure function of the seed.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run")(run.run)
app.command("resume")(run.resume)
app.command("compare")(compare.compare)
app.command("study")(study.study)
app.command("tune")(tune.tune)
app.command("plan")(plan.plan)
app.command("diagnose")(diagnose.diagnose)
app.command("fsck")(fsck.fsck)
app.command("export")(export.export)
app.command("bench")(bench.bench)
app.command("config")(config.config)
app.command("replay")(replay.replay)
app.add_typer(data.app, name="data")
app.add_typer(trace.app, name="trace")
app.command("status")(jobs.status)
app.command("logs")(jobs.logs)
app.command("stop")(jobs.stop)
app.add_typer(cluster.cluster, name="cluster")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"fedrevive {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run_app(arguments: Sequence[str]) -> int:
    """Carry out one command line and return its exit code (`ExitCode`); errors are one line on standard error."""
    try:
        returned = app(args=list(arguments), prog_name="fedrevive", standalone_mode=False)
        print(end="", flush=True)  # a full disk or a closed pipe must show here, not at interpreter exit
    except UserError as error:
        return _report(f"{PREFIX}{error}", error.exit_code)
    except TyperException as error:
        return _report(one_line(PREFIX + _lower(error.format_message())), ExitCode.USER)
    except (typer.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # typer turns a closed pipe into a bare exit
            return _silenced(ExitCode.BROKEN_PIPE)
        if stop.code == signal.SIGTERM:  # Ray's own handler, which stands while Ray starts
            return ExitCode.TERMINATED
        raise
    except BrokenPipeError:
        return _silenced(ExitCode.BROKEN_PIPE)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _silenced(_report(one_line(f"{PREFIX}disk full: {error}"), ExitCode.ENVIRONMENT))
        return _report(_internal_error(error), ExitCode.BUG)
    return returned if isinstance(returned, int) else ExitCode.DONE


def _report(line: str, exit_code: int) -> int:
    print(line, file=sys.stderr)
    return exit_code


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:].rstrip(".")


def _internal_error(error: Exception) -> str:
    """One line; the traceback goes to a file that only this user can read."""
    details = "".join(traceback.format_exception(error))
    try:
        number, name = tempfile.mkstemp(prefix="fedrevive-error-", suffix=".txt")
        with os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(details)
    except OSError:
        tail = "; no room for a file with details"
    else:
        tail = f"; details in {name}"
    return one_line(f"internal error: {type(error).__name__}: {error}", tail, LINE_LIMIT)


def _silenced(exit_code: int) -> int:
    """Give up standard output, so that Python does not complain about it once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exit_code

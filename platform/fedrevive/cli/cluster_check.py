"""`fedrevive cluster check`."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedrevive.cli.option_values import count, natural, usable_path
from fedrevive.cli.run import JsonOption
from fedrevive.settings.errors import PREFIX, ExitCode, UserError

if TYPE_CHECKING:
    from fedrevive.runtime.cluster_survey import Report
    from fedrevive_clusters.live_check import Checked

_COLUMNS = ("node", "CPUs", "GPUs", "object store", "Ray", "sources", "storage", "smoke run")


def check(
    address: Annotated[
        str, typer.Option("--address", metavar="auto|HOST:PORT", help="Head of the cluster.")
    ] = "auto",
    storage: Annotated[
        Path,
        typer.Option("--storage", metavar="DIR", help="Folder that all nodes share.", callback=usable_path),
    ] = Path("results"),
    nodes: Annotated[
        int | None, typer.Option("--nodes", metavar="N", parser=count, help="How many there should be.")
    ] = None,
    wait: Annotated[
        int | None, typer.Option("--wait", metavar="SECONDS", parser=natural, help="Time to come up; 0.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask every node of a running cluster, and let each run a small experiment. Run it in the cluster.

    Example: fedrevive cluster check --storage /shared/fedrevive
    """
    from fedrevive.cli import preflight
    from fedrevive_clusters.live_check import check_cluster

    preflight.ray_environment()
    found = check_cluster(address, storage, expected=nodes, patience=wait or 0)
    if as_json:
        rows = [_row(found, report) for report in found.reports]
        print(
            json.dumps(
                {"address": found.address, "nodes": rows, "problems": found.problems, "notes": found.notes}
            )
        )
    else:
        _show(found)
    for problem in found.problems:
        print(f"{PREFIX}{UserError(problem)}", file=sys.stderr)
    if found.problems:
        raise typer.Exit(ExitCode.ENVIRONMENT)


def _row(found: Checked, report: Report) -> dict[str, Any]:
    smoke = found.smokes.get(report.node.number)
    return {
        **dataclasses.asdict(report.node),
        "facts": dataclasses.asdict(report.facts) if report.facts else None,
        "problem": report.problem,
        "smoke": dataclasses.asdict(smoke) if smoke else None,
    }


def _show(found: Checked) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{found.address}: token asked for, {len(found.reports)} nodes", box=box.SIMPLE_HEAD)
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name == "node" else "right", no_wrap=True)
    for report in found.reports:
        node, facts, smoke = report.node, report.facts, found.smokes.get(report.node.number)
        told = (
            (facts.versions["ray"], facts.code[:8], "shared" if facts.reads and facts.writes else "no")
            if facts
            else ("-", "-", "-")
        )
        table.add_row(
            node.address + (" (head)" if node.head else ""),
            str(node.cpus),
            str(node.gpus),
            f"{node.store_bytes >> 20:,} MiB",
            *told,
            f"{smoke.seconds:.1f} s, {smoke.model[:8]}" if smoke else "-",
        )
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=110)
    console.print(table)
    for note in found.notes:
        console.print(f"note: {note}", soft_wrap=True)

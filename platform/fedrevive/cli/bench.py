"""`fedrevive bench`."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fedrevive.benchmark.workloads import WORKLOADS, chosen
from fedrevive.cli.run import JsonOption
from fedrevive.settings.errors import UserError, shown

WORKLOAD_HELP = f"Names or codes; all by default: {', '.join(f'{w.name} ({w.code})' for w in WORKLOADS)}."


def bench(
    workloads: Annotated[
        list[str] | None, typer.Argument(metavar="[WORKLOAD...]", help=WORKLOAD_HELP)
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny sizes, once: shows that it works, the numbers mean nothing.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Parquet file; an old one is replaced."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how fast this machine simulates, beside what its processors could do at best.

    Example: fedrevive bench sim-small kd
    """
    asked = chosen(workloads or [])
    path = _checked(output or Path(f"results/bench-{time.strftime('%Y%m%d-%H%M%S')}.parquet"))
    from fedrevive.benchmark.running import Machine, measured, write_rows
    from fedrevive.cli import preflight
    from fedrevive.provenance import lane, versions

    machine = Machine(lane()["cpu"], preflight.available_cpus(), versions())
    header = _header(machine.device, machine.cpus, quick)
    print(header, file=sys.stderr)
    rows: list[dict[str, Any]] = []
    for found in measured(asked, quick=quick, machine=machine, tell=_tell):
        rows += found
        path.parent.mkdir(parents=True, exist_ok=True)
        write_rows(path, rows)
    if as_json:
        print(json.dumps({"file": str(path), "header": header, "quick": quick, "rows": rows}))
    elif rows:
        _show(rows, header)
        print(f"table {path}")


def _checked(path: Path) -> Path:
    if path.is_dir():
        raise UserError(f"--output: {shown(str(path))} is a folder; name a file such as bench.parquet")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise UserError(f"--output: {shown(str(folder))} is not a folder; choose another file")
    return path


def _header(device: str, cpus: int, quick: bool) -> str:
    load = os.getloadavg()
    tail = "; quick: the numbers mean nothing" if quick else ""
    return f"{device}, {cpus} CPUs, load {load[0]:.2f} {load[1]:.2f} {load[2]:.2f}{tail}"


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _show(rows: list[dict[str, Any]], header: str) -> None:
    from rich.console import Console
    from rich.table import Table

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"

    def ranged(row: dict[str, Any], name: str) -> str:
        low, high = number(row[f"{name}_min"]), number(row[f"{name}_max"])
        return number(row[name]) + ("" if low == high else f" [{low}-{high}]")

    table = Table(title=header)
    for column in ("workload", "metric", "ours", "reference", "ratio", "unit", "n"):
        justify: Literal["left", "right"] = "left" if column in ("workload", "metric", "unit") else "right"
        table.add_column(column, justify=justify, overflow="fold")
    for row in rows:
        reference, repetitions = number(row["reference"]), str(row["repetitions"])
        name = f"{row['workload']} {row['code']}"
        table.add_row(
            name,
            row["metric"],
            ranged(row, "ours"),
            reference,
            ranged(row, "ratio"),
            row["unit"],
            repetitions,
        )
    Console().print(table)

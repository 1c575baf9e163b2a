"""`fedrevive trace`: public measurements of devices as the table that `delays.kind=trace` reads (docs/traces.md)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedrevive.cli.option_values import usable_path
from fedrevive.settings.errors import UserError

if TYPE_CHECKING:
    from fedrevive.simulation.trace_sources import Row

app = typer.Typer(
    help="Make a table of devices for delays.kind=trace from a public trace.", rich_markup_mode=None
)
Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder with the source's files.", callback=usable_path)
]
Output = Annotated[
    Path,
    typer.Option(
        "-o", "--output", metavar="FILE", help="Table to write: .csv or .parquet.", callback=usable_path
    ),
]
StepSeconds = Annotated[
    float,
    typer.Option("--step-seconds", min=0.0, help="Seconds of a local step, which the source does not have."),
]


@app.command("fedscale100")
def fedscale100(
    directory: Folder,
    output: Output,
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="N", min=1, help="Samples of a step.")
    ] = 32,
) -> None:
    """100 phones with compute times, bandwidths and hours of availability."""
    from fedrevive.simulation import trace_sources

    _write(trace_sources.fedscale100(directory, batch_size), output)


@app.command("flash")
def flash(
    directory: Folder,
    output: Output,
    workload: Annotated[
        str, typer.Option("--workload", help="The measured network, such as femnist_cnn.")
    ] = "femnist_cnn",
    devices: Annotated[int, typer.Option("--devices", metavar="N", min=1, help="Devices to draw.")] = 100,
    jobs: Annotated[
        int, typer.Option("--jobs", metavar="N", min=1, help="Observations to draw of each.")
    ] = 20,
    draws: Annotated[int, typer.Option("--seed", min=0, help="Of the draws.")] = 0,
) -> None:
    """Batch times of three phones and network speeds of 19 users."""
    from fedrevive.simulation import trace_sources

    _write(trace_sources.flash(directory, workload, devices, jobs, draws), output)


@app.command("seattle_rtt")
def seattle_rtt(
    directory: Folder,
    output: Output,
    step_seconds: StepSeconds,
    server: Annotated[int, typer.Option("--server", min=0, help="The device that is the server.")] = 0,
) -> None:
    """Response times of 98 personal devices; heavy tails."""
    from fedrevive.simulation import trace_sources

    _write(trace_sources.seattle_rtt(directory, server, step_seconds), output)


@app.command("cellular_4g5g")
def cellular_4g5g(directory: Folder, output: Output, step_seconds: StepSeconds) -> None:
    """Throughput of a 4G and a 5G connection over time."""
    from fedrevive.simulation import trace_sources

    _write(trace_sources.cellular_4g5g(directory, step_seconds), output)


def _write(rows: Iterable[Row], output: Path) -> None:
    """Write the table, and read it back as a run would."""
    from fedrevive.results.files import replaced
    from fedrevive.simulation.trace_rows import COLUMNS
    from fedrevive.simulation.trace_table import read_trace

    suffix = output.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise UserError(f"-o: {output} must end in .csv or .parquet")
    if not output.parent.is_dir():
        raise UserError(f"-o: the folder {output.parent} does not exist; create it or choose another one")
    try:
        table = [[row.get(name) for name in COLUMNS] for row in rows]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"DIR: a file is not what docs/traces.md says ({reason}); fetch it again") from None
    with replaced(output) as stream:
        if suffix == ".csv":
            text = io.TextIOWrapper(stream, "utf-8", newline="", write_through=True)
            csv.writer(text, lineterminator="\n").writerows([COLUMNS, *table])
            text.detach()
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            columns = [pa.array(column, pa.float64()) for column in zip(*table, strict=True)]
            pq.write_table(pa.table(columns, names=list(COLUMNS)), stream)
    found = read_trace(output)
    windows = sum(each is not None for each in found.windows)
    print(f"{output}: {found.devices} devices, {len(table):,} rows, {windows} with hours of availability")

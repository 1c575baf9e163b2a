"""`fedrevive compare`, and how `fedrevive resume` goes on with a comparison."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedrevive.cli.competitors import Competitors, competing, labels, seed_list
from fedrevive.cli.run import (
    AddressOption,
    Arguments,
    DownloadOption,
    ExecutorOption,
    JsonOption,
    OutputOption,
    WorkersOption,
    compute_flags,
    typed,
)

CONTROLS_HELP = (
    "Variants of one of the algorithms, such as fedrevive:pool=noise. A control takes the configuration selected for "
    "its algorithm, with its own overrides on top, and has no grid."
)

if TYPE_CHECKING:
    from fedrevive.cli.preflight import Offer
    from fedrevive.comparison import Outcome
    from fedrevive.results.comparison_folder import Entry

VARIANTS_HELP = (
    "Algorithms, each with its own overrides after colons: fedbuff:server.lr=0.1,fedrevive:pool=noise. Values a/b/c "
    "are a grid: the best configuration by validation accuracy on the first seed is reported."
)


def compare(
    arguments: Arguments = None,
    algorithms: Annotated[
        str, typer.Option("--algorithms", metavar="A,B,...", help=VARIANTS_HELP)
    ] = "fedbuff,afl_dw,fedrevive",
    controls: Annotated[str | None, typer.Option("--controls", metavar="A,B,...", help=CONTROLS_HELP)] = None,
    seeds: Annotated[str, typer.Option("--seeds", metavar="0,1,2", help="One timeline per seed.")] = "0,1,2",
    executor: ExecutorOption = None,
    workers: WorkersOption = None,
    output: OutputOption = None,
    download: DownloadOption = False,
    as_json: JsonOption = False,
    address: AddressOption = None,
) -> None:
    """Compare algorithms on equal timelines.

    Example: fedrevive compare digits --algorithms fedbuff,fedbuff:server.lr=0.1,fedrevive --seeds 0,1,2
    """
    from fedrevive.cli import preflight
    from fedrevive.results.comparison_folder import claimed

    source, overrides = typed(arguments)
    competitors = Competitors(labels(algorithms), labels(controls), seed_list(seeds))
    entries = competing(source, overrides, competitors, compute_flags(executor, workers))
    first = entries[0].config
    identity = sha256("".join(entry.run_id for entry in entries).encode()).hexdigest()[:8]
    folder = Path(output or first.output or f"results/compare-{first.name}-{identity}")
    given = preflight.offer(address, folder)
    check(to_do(folder, entries), download, given)
    with claimed(folder, entries, {"command": preflight.command_line(), "created_at": time.time()}):
        outcome = carry_out(folder, entries, given, download=download, go_on=folder)
    present(folder, outcome, as_json=as_json)


def resume_comparison(
    folder: Path, flags: dict[str, Any], *, address: str | None, download: bool, as_json: bool
) -> None:
    """Finish the runs of a comparison that are not complete."""
    from fedrevive.cli import preflight
    from fedrevive.results.comparison_folder import Entry, writing
    from fedrevive.results.manifest import read_manifest
    from fedrevive.settings.loading import with_compute

    entries = [
        Entry(
            item["label"],
            with_compute(item["config"], flags),
            item["run_id"],
            item["point"],
            item["follows"],
        )
        for item in read_manifest(folder)["entries"]
    ]
    given = preflight.offer(address, folder)
    check(to_do(folder, entries), download, given)
    with writing(folder):
        outcome = carry_out(folder, entries, given, download=download, go_on=folder)
    present(folder, outcome, as_json=as_json)


def check(entries: list[Entry], download: bool, given: Offer) -> None:
    from fedrevive.cli import preflight
    from fedrevive.pretrained import require_files
    from fedrevive.tasks import check_data

    for entry in entries:
        preflight.workers(entry.config, given)
        preflight.delays(entry.config)
        require_files(entry.config)
        preflight.nodes_find_data(entry.config.task, given)
        if not download:
            check_data(entry.config.task)


def carry_out(folder: Path, entries: list[Entry], given: Offer, *, download: bool, go_on: Path) -> Outcome:
    """Run what is not complete, then write the comparison's table and picture.

    Args:
        folder: the comparison.
        entries: its runs.
        given: where Ray takes its processors.
        download: fetch missing data.
        go_on: folder that `fedrevive resume` is told after an interruption.
    """
    from fedrevive.cli.execution import manifest
    from fedrevive.cli.interrupts import Interrupts
    from fedrevive.cli.preflight import side_by_side
    from fedrevive.cli.progress import ComparisonProgress

    interrupts = Interrupts()
    interrupts.install()
    from fedrevive.comparison import Machinery, conclude, run_stages, selected, tuning
    from fedrevive.followed_run import RunIdentity

    def open_as(entry: Entry) -> RunIdentity:
        return RunIdentity(entry.folder(folder), manifest(entry.config))

    def stages() -> Iterator[list[Entry]]:
        yield to_do(folder, tuning(entries))
        yield to_do(folder, selected(folder, entries))

    if to_do(folder, tuning(entries)) or to_do(folder, selected(folder, entries)):
        lanes, workers = side_by_side(entries[0].config, len(entries), given)
        with ComparisonProgress() as progress:
            run_stages(
                stages(),
                [entry.config for entry in entries],
                open_as,
                Machinery(lanes, workers, given.cpus, download, given.address),
                interrupted=interrupts,
                ready=interrupts.install,
                observe=progress.show,
            )
    if interrupts():
        print(f"stopped; go on with: fedrevive resume {go_on}", file=sys.stderr)
        raise typer.Exit(interrupts.exit_code)
    return conclude(folder, entries)


def present(folder: Path, outcome: Outcome, *, as_json: bool) -> None:
    """Print a comparison's table."""
    if as_json:
        print(json.dumps({"dir": str(folder), "target": outcome.target, "rows": outcome.rows}))
    else:
        _show(folder, outcome)


def to_do(folder: Path, entries: list[Entry]) -> list[Entry]:
    """Runs that are not complete, the longest first."""
    from fedrevive.results.store import is_complete

    missing = [entry for entry in entries if not is_complete(entry.folder(folder))]
    return sorted(missing, key=lambda entry: entry.config.algorithm.name != "fedrevive")


def _show(folder: Path, outcome: Outcome) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    origin = "90 % of the best competitor's" if outcome.target_is_auto else "evaluation.target_accuracy"
    seeds = max(row["seeds"] for row in outcome.rows)
    table = Table(
        title=f"Test accuracy at the end; mean over {seeds} seeds ± 95 % interval",
        caption=(
            "final: mean of the last evaluations. difference: final minus the first row's, seed by seed.\n"
            "AUC: mean accuracy over virtual time. "
            f"to target: virtual time to accuracy {outcome.target:.3f} ({origin}). "
            "server: its operations per operation of the clients.\nCPU: processor seconds of clients and server."
        ),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for name in ("algorithm", "final", "difference", "AUC", "to target", "server", "CPU"):
        left = name == "algorithm"
        table.add_column(name, justify="left" if left else "right", no_wrap=not left)
    for row in outcome.rows:
        table.add_row(
            _named(row),
            _interval(row["final_accuracy"]),
            _interval(row["difference"], signed=True) if row["difference"] else "",
            f"{row['auc']['mean']:.3f}",
            _target(row),
            f"{row['server_flops'] / row['client_flops']:.2f}",
            f"{row['client_cpu_seconds'] + row['server_cpu_seconds']:.0f}",
        )
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=110)
    console.print(table)
    console.print(f"table {folder / 'comparison.parquet'}\npicture {folder / 'accuracy.png'}", soft_wrap=True)


def _named(row: dict[str, Any]) -> str:
    mark = " (oracle)" if row["oracle"] else ""
    return f"{row['label']}{mark}" + (f"\n  {row['configuration']}" if row["configuration"] else "")


def _interval(interval: dict[str, float | None], *, signed: bool = False) -> str:
    mean, low, high = (interval[name] for name in ("mean", "low", "high"))
    if mean is None:
        return "-"
    text = f"{mean:+.3f}" if signed else f"{mean:.3f}"
    return text if low is None or high is None else f"{text} ± {(high - low) / 2:.3f}"


def _target(row: dict[str, Any]) -> str:
    mean = row["time_to_target"]["mean"]
    missed = f" ({row['censored']} never)" if row["censored"] else ""
    return "never" if mean is None else f"{mean:.2f}{missed}"

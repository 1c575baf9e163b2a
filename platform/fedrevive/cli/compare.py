"""`fedrevive compare`, and how `fedrevive resume` goes on with a comparison."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedrevive.cli.run import (
    Arguments,
    DownloadOption,
    ExecutorOption,
    JsonOption,
    OutputOption,
    WorkersOption,
    compute_flags,
    typed,
)
from fedrevive.settings.errors import UserError, shown

if TYPE_CHECKING:
    from fedrevive.comparison import Outcome
    from fedrevive.results.comparison_folder import Entry
    from fedrevive.settings import ExperimentConfig

VARIANTS_HELP = (
    "Algorithms, each with its own overrides after colons: fedbuff:server.lr=0.1,fedrevive:pool=noise. Values a/b/c "
    "are a grid: the best configuration by validation accuracy on the first seed is reported."
)


def compare(
    arguments: Arguments = None,
    algorithms: Annotated[
        str, typer.Option("--algorithms", metavar="A,B,...", help=VARIANTS_HELP)
    ] = "fedbuff,afl_dw,fedrevive",
    seeds: Annotated[str, typer.Option("--seeds", metavar="0,1,2", help="One timeline per seed.")] = "0,1,2",
    executor: ExecutorOption = None,
    workers: WorkersOption = None,
    output: OutputOption = None,
    download: DownloadOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare algorithms on equal timelines.

    Example: fedrevive compare digits --algorithms fedbuff,fedbuff:server.lr=0.1,fedrevive --seeds 0,1,2
    """
    from fedrevive.cli import preflight
    from fedrevive.results.comparison_folder import claim

    entries = _entries(arguments, algorithms, _seeds(seeds), compute_flags(executor, workers))
    first = entries[0].config
    identity = sha256("".join(entry.run_id for entry in entries).encode()).hexdigest()[:8]
    folder = Path(output or first.output or f"results/compare-{first.name}-{identity}")
    _check(_to_do(folder, entries), download)
    claim(folder, entries, {"command": preflight.command_line(), "created_at": time.time()})
    carry_out(folder, entries, download=download, as_json=as_json)


def resume_comparison(folder: Path, flags: dict[str, Any], *, download: bool, as_json: bool) -> None:
    """Finish the runs of a comparison that are not complete."""
    from fedrevive.results.comparison_folder import Entry
    from fedrevive.results.manifest import read_manifest
    from fedrevive.settings.loading import with_compute

    entries = [
        Entry(
            item["label"],
            with_compute(item["config"], flags),
            item["run_id"],
            item["point"],
        )
        for item in read_manifest(folder)["entries"]
    ]
    _check(_to_do(folder, entries), download)
    carry_out(folder, entries, download=download, as_json=as_json)


def _seeds(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise UserError(f"--seeds: {shown(text)} is not a list of integers >= 0, such as 0,1,2")
    if len(set(map(int, parts))) < len(parts):
        raise UserError(f"--seeds: {shown(text)} names a seed twice")
    return [int(part) for part in parts]


def _entries(
    arguments: list[str] | None, algorithms: str, seeds: list[int], flags: dict[str, Any]
) -> list[Entry]:
    from fedrevive.results.comparison_folder import Entry
    from fedrevive.settings.identity import run_id
    from fedrevive.settings.loading import grid, load, variant

    source, overrides = typed(arguments)
    for path, option in (("seed", "--seeds"), ("algorithm.name", "--algorithms")):
        if any(override.startswith(f"{path}=") for override in overrides):
            raise UserError(f"{path}: a comparison takes it from {option}")
    entries: list[Entry] = []
    labels: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for label in (part.strip() for part in algorithms.split(",")):
        name, own = variant(label)
        if any(override.startswith(("seed=", "algorithm.name=")) for override in own):
            raise UserError(f"--algorithms: {label} sets its seed or its name again; --seeds gives the seeds")
        points = grid(own)
        sizes[label] = len(points)
        for point, seed in product(points, seeds):
            config = load(source, [*overrides, f"algorithm.name={name}", *point, f"seed={seed}"], flags)
            varied = " ".join(given for given in point if given not in own)
            entry = Entry(label, config, run_id(config), varied)
            if entry.run_id in labels:
                raise UserError(
                    f"--algorithms: {labels[entry.run_id]} and {label} are the same run; name it once"
                )
            labels[entry.run_id] = label
            entries.append(entry)
            _require_common_terms(label, config, entries[0].config)
    _require_equal_budgets(sizes)
    return entries


def _require_common_terms(label: str, config: ExperimentConfig, first: ExperimentConfig) -> None:
    """The problem, the delays, the budget and what is measured are the same for all competitors."""
    for section in ("task", "delays", "stop", "evaluation", "compute", "output", "snapshots", "name"):
        if getattr(config, section) != getattr(first, section):
            raise UserError(
                f"--algorithms: {label} changes {section}, which all competitors share; set it for all"
            )


def _require_equal_budgets(sizes: dict[str, int]) -> None:
    """A comparison with grids is fair only if every competitor may choose among equally many configurations."""
    (first, most), *others = sizes.items()
    for label, size in others:
        if size != most:
            raise UserError(
                f"--algorithms: {first} has {most} configuration(s) and {label} has {size}; give every competitor "
                "a grid of equal size"
            )


def _check(entries: list[Entry], download: bool) -> None:
    from fedrevive.cli import preflight
    from fedrevive.tasks import check_data

    for entry in entries:
        preflight.workers(entry.config)
        if not download:
            check_data(entry.config.task)


def carry_out(folder: Path, entries: list[Entry], *, download: bool, as_json: bool) -> None:
    """Run what is not complete, then print and write the comparison."""
    from fedrevive.cli.execution import open_run
    from fedrevive.cli.interrupts import Interrupts
    from fedrevive.cli.preflight import available_cpus, side_by_side
    from fedrevive.cli.progress import ComparisonProgress
    from fedrevive.results.store import RunStore

    interrupts = Interrupts()
    interrupts.install()
    from fedrevive.comparison import conclude, run_stages, selected, tuning

    def open_store(entry: Entry) -> RunStore:
        return open_run(entry.config, entry.folder(folder), download=download)

    def stages() -> Iterator[list[Entry]]:
        yield _to_do(folder, tuning(entries))
        yield _to_do(folder, selected(folder, entries))

    if _to_do(folder, tuning(entries)) or _to_do(folder, selected(folder, entries)):
        lanes, workers = side_by_side(entries[0].config, len(entries))
        with ComparisonProgress() as progress:
            run_stages(
                stages(),
                [entry.config for entry in entries],
                open_store,
                lanes=lanes,
                workers=workers,
                cpus=available_cpus(),
                download=download,
                interrupted=interrupts,
                ready=interrupts.install,
                observe=progress.show,
            )
    if interrupts():
        print(f"stopped; go on with: fedrevive resume {folder}", file=sys.stderr)
        raise typer.Exit(interrupts.exit_code)
    outcome = conclude(folder, entries)
    if as_json:
        print(json.dumps({"dir": str(folder), "target": outcome.target, "rows": outcome.rows}))
    else:
        _show(folder, outcome)


def _to_do(folder: Path, entries: list[Entry]) -> list[Entry]:
    """Runs that are not complete, the longest first."""
    from fedrevive.results.store import is_complete

    missing = [entry for entry in entries if not is_complete(entry.folder(folder))]
    return sorted(missing, key=lambda entry: entry.config.algorithm.name != "fedrevive")


def _show(folder: Path, outcome: Outcome) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    origin = "95 % of the best" if outcome.target_is_auto else "evaluation.target_accuracy"
    seeds = max(row["seeds"] for row in outcome.rows)
    table = Table(
        title=f"Test accuracy, mean of the last 10 evaluations; mean over {seeds} seeds ± 95 % interval",
        caption=(
            "difference: final accuracy minus the first row's, seed by seed. AUC: mean accuracy over virtual time.\n"
            f"to target: virtual time to accuracy {outcome.target:.3f} ({origin}). "
            "server: its operations per operation of the clients."
        ),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for name in ("algorithm", "final", "difference", "AUC", "to target", "server"):
        left = name == "algorithm"
        table.add_column(name, justify="left" if left else "right", no_wrap=not left)
    for row in outcome.rows:
        table.add_row(
            f"{row['label']}\n  {row['configuration']}" if row["configuration"] else row["label"],
            _interval(row["final_accuracy"]),
            _interval(row["difference"], signed=True) if row["difference"] else "",
            f"{row['auc']['mean']:.3f}",
            _target(row),
            f"{row['server_flops'] / row['client_flops']:.2f}",
        )
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=110)
    console.print(table)
    console.print(f"table {folder / 'comparison.parquet'}\npicture {folder / 'accuracy.png'}", soft_wrap=True)


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

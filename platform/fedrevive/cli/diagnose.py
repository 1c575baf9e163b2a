"""`fedrevive diagnose`: why FedRevive wins or loses in a run or in every run of a comparison."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fedrevive.cli.option_values import usable_path
from fedrevive.cli.run import JsonOption
from fedrevive.settings.errors import UserError


def diagnose(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A run's or a comparison's folder.", callback=usable_path),
    ],
    as_json: JsonOption = False,
) -> None:
    """Look for the paper's three failure signatures: fedrevive diagnose results/digits-0123456789abcdef"""
    runs = [_diagnosed(*run) for run in _runs(directory)]
    if not runs:
        raise UserError(f"{directory}: none of its runs has begun; go on with: fedrevive resume {directory}")
    if as_json:
        print(json.dumps({"dir": str(directory), "runs": runs}))
    else:
        _show(runs)


def _runs(directory: Path) -> list[tuple[str, Path]]:
    """Label and folder of every run that has begun."""
    from fedrevive.results.comparison_folder import KIND, is_kind
    from fedrevive.results.folder import has_manifest
    from fedrevive.results.manifest import read_manifest

    if not is_kind(directory, KIND):
        return [(read_manifest(directory)["config"]["algorithm"]["name"], directory)]
    folders = [
        (f"{entry['label']} {entry['point']}".strip(), directory / "runs" / entry["run_id"])
        for entry in read_manifest(directory)["entries"]
    ]
    return [(label, folder) for label, folder in folders if has_manifest(folder)]


def _diagnosed(label: str, folder: Path) -> dict[str, Any]:
    from fedrevive.results.diagnosis import diagnose as signatures
    from fedrevive.results.manifest import read_manifest
    from fedrevive.results.reading import read_table
    from fedrevive.settings.loading import with_compute
    from fedrevive.tasks import task_info

    manifest = read_manifest(folder)
    config = with_compute(manifest["config"], {})
    arrivals = read_table(folder, "arrivals")
    found = signatures(arrivals, task_info(config.task).classes)
    return {
        "label": label,
        "seed": config.seed,
        "run_id": manifest["run_id"],
        "arrivals": arrivals.num_rows,
        "signatures": [dataclasses.asdict(signature) for signature in found],
    }


def _show(runs: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=110)
    advice: dict[str, str] = {}
    for run in runs:
        table = Table(
            title=f"{run['label']}, seed {run['seed']}, {run['arrivals']} arrivals", box=box.SIMPLE_HEAD
        )
        for name in ("signature", "verdict", "numbers"):
            table.add_column(name)
        for signature in run["signatures"]:
            numbers = ", ".join(
                f"{name} {value:.3g}" for name, value in signature["numbers"].items() if value is not None
            )
            table.add_row(signature["name"].replace("_", " "), signature["verdict"], numbers)
            if signature["advice"]:
                advice.setdefault(signature["advice"], signature["name"].replace("_", " "))
        console.print(table)
    for text, name in advice.items():
        console.print(f"{name}: {text}.", soft_wrap=True)

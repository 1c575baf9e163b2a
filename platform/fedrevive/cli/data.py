"""`fedrevive data`: is a task's data there and whole, and how is it spread over the clients?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedrevive.cli.option_values import usable_path
from fedrevive.cli.run import DownloadOption, JsonOption, typed
from fedrevive.settings.errors import UserError
from fedrevive.settings.loading import load, preset_names

if TYPE_CHECKING:
    from fedrevive.settings import ExperimentConfig
    from fedrevive.tasks import FederatedData

app = typer.Typer(
    help="Check a task's data, or show how it is spread over the clients.", rich_markup_mode=None
)
Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TASK [a.b=c ...]",
        help=f"A preset ({', '.join(preset_names())}) or a YAML file, then overrides such as task.partition.alpha=0.1.",
    ),
]
DataDirOption = Annotated[
    str | None, typer.Option("--data-dir", metavar="DIR", help="task.data_dir", callback=usable_path)
]


@app.command("check")
def check(
    words: Words = None,
    data_dir: DataDirOption = None,
    download: DownloadOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read all of a task's files and verify what can be verified.

    Example: fedrevive data check cifar10 --data-dir ~/data
    """
    config, data = _loaded(words, data_dir, download)
    sizes = _sizes(data)
    if as_json:
        print(json.dumps({"task": config.task.name, "samples": sizes}))
    else:
        counts = ", ".join(f"{count:,} {part}" for part, count in sizes.items())
        print(f"{config.task.name}: the data is there and whole: {counts}; {data.info.classes} classes")


@app.command("show")
def show(
    words: Words = None,
    data_dir: DataDirOption = None,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Heat map to write, a PNG.", callback=usable_path
        ),
    ] = Path("partition.png"),
    download: DownloadOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show how a task's training part is spread over the clients, with a heat map of their classes.

    Example: fedrevive data show fashion_mnist --data-dir ~/data task.partition.alpha=0.1
    """
    if output.suffix.lower() != ".png":
        raise UserError(f"-o: {output} must end in .png")
    if not output.parent.is_dir():
        raise UserError(f"-o: the folder {output.parent} does not exist; create it or choose another one")
    config, data = _loaded(words, data_dir, download)
    from fedrevive.results.partition_figure import partition_figure

    histograms = data.class_histograms()
    partition_figure(histograms, _title(config), output)
    summary = _summary(config, data)
    if as_json:
        print(json.dumps({**summary, "figure": str(output)}))
        return
    _print(config, summary)
    print(f"heat map: {output}")


def _loaded(
    words: list[str] | None, data_dir: str | None, download: bool
) -> tuple[ExperimentConfig, FederatedData]:
    source, overrides = typed(words)
    config = load(source, overrides, {"task.data_dir": data_dir})
    from fedrevive.tasks import check_data, load_task

    if not download:
        check_data(config.task)
    return config, load_task(config.task, config.seed, download)


def _sizes(data: FederatedData) -> dict[str, int]:
    return {name: len(getattr(data, name)) for name in ("train", "validation", "kd", "test")}


def _summary(config: ExperimentConfig, data: FederatedData) -> dict[str, Any]:
    """The object of `--json`."""
    import numpy as np

    histograms = data.class_histograms()
    samples, held = histograms.sum(1), (histograms > 0).sum(1)
    shares = histograms / samples[:, None]
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(1)
    return {
        "task": config.task.name,
        "partition": config.task.partition.model_dump(),
        "seed": config.seed,
        "clients": len(histograms),
        "samples": _sizes(data),
        "samples_per_client": {
            "min": int(samples.min()), "median": float(np.median(samples)), "max": int(samples.max()),
        },
        "classes": data.info.classes,
        "classes_per_client": {
            "min": int(held.min()), "median": float(np.median(held)), "max": int(held.max()),
        },
        "effective_classes": float(np.exp(entropy).mean()),
        "class_histogram": histograms.sum(0).tolist(),
    }  # fmt: skip


def _print(config: ExperimentConfig, summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    def spread(name: str) -> str:
        return "{min:,} to {max:,}, median {median:,g}".format(**summary[name])

    table = Table(title=_title(config), show_header=False)
    table.add_row("samples", ", ".join(f"{n:,} {part}" for part, n in summary["samples"].items()))
    table.add_row("clients", f"{summary['clients']:,}")
    table.add_row("training samples of a client", spread("samples_per_client"))
    table.add_row(f"of {summary['classes']} classes, a client has", spread("classes_per_client"))
    table.add_row("effective classes, exp(entropy), mean", f"{summary['effective_classes']:.2f}")
    most, least = max(summary["class_histogram"]), min(summary["class_histogram"])
    table.add_row("samples of a class, over all clients", f"{least:,} to {most:,}")
    Console().print(table)


def _title(config: ExperimentConfig) -> str:
    partition = config.task.partition
    kind = partition.kind + (f" {partition.alpha:g}" if partition.kind == "dirichlet" else "")
    return f"{config.task.name}: {config.task.clients:,} clients, partition {kind}, seed {config.seed}"

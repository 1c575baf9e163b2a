"""`fedrevive cluster`: launch files for more than one machine, and whether they and a running cluster are sound."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from fedrevive.cli.cluster_check import check
from fedrevive.cli.option_values import count, natural, usable_path
from fedrevive.cli.run import JsonOption
from fedrevive.settings.errors import PREFIX, ExitCode, UserError, did_you_mean, shown
from fedrevive_clusters.launch_plan import (
    KINDS,
    TARGETS,
    LaunchPlan,
    default_image,
    default_wheel,
    read_storage,
    require_hosts,
)

cluster = typer.Typer(
    help="Launch files for several machines: render and validate them, check a running cluster.",
    no_args_is_help=False,
    rich_markup_mode=None,
)
cluster.command("check")(check)
_SUFFIXES = {"slurm": "slurm.sbatch", "local": "local.sh"}
OutputFile = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="FILE", help="Write there instead.", callback=usable_path),
]
StorageOption = Annotated[
    str | None,
    typer.Option("--storage", metavar="URI", help="A shared folder, nfs://server/folder or pvc://claim."),
]


@cluster.callback(invoke_without_command=True)
def _group(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@cluster.command("render")
def render(
    target: Annotated[str, typer.Argument(metavar="|".join(TARGETS), help="What the file is for.")],
    nodes: Annotated[
        int | None,
        typer.Option("--nodes", metavar="N", parser=count, help="Machines, the head included; 3."),
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option("--gpus-per-node", metavar="G", parser=natural, help="Of the head; 1, local: 0."),
    ] = None,
    gpu_workers: Annotated[
        bool, typer.Option("--gpu-workers", help="As many GPUs on the workers (slurm: always).")
    ] = False,
    cpus: Annotated[
        int | None,
        typer.Option("--cpus-per-node", metavar="C", parser=count, help="8; local: a share of this machine."),
    ] = None,
    storage: StorageOption = None,
    search: Annotated[str, typer.Option("--search", metavar="NAME|FILE", help="What is run.")] = "digits",
    head_ip: Annotated[
        str, typer.Option("--head-ip", metavar="HOST", help="onprem: the head.")
    ] = "192.0.2.1",
    worker_ips: Annotated[
        str | None,
        typer.Option("--worker-ips", metavar="HOST,...", help="onprem: the workers; sets --nodes."),
    ] = None,
    kind: Annotated[
        str, typer.Option("--kind", metavar="job|cluster", help="kuberay: a RayJob or a RayCluster.")
    ] = "job",
    image: Annotated[
        str | None, typer.Option("--image", metavar="IMAGE:TAG", help="kuberay: with Ray and fedrevive.")
    ] = None,
    wheel: Annotated[
        str | None, typer.Option("--wheel", metavar="FILE", help="aws, gcp, onprem: fedrevive's wheel.")
    ] = None,
    project: Annotated[
        str, typer.Option("--project", metavar="ID", help="gcp: the project that pays.")
    ] = "example-project",
    output: OutputFile = None,
) -> None:
    """Print a launch file.

    Example: fedrevive cluster render slurm --nodes 4 --storage /scratch/shared -o search.sbatch
    """
    from fedrevive.cli.preflight import available_cpus
    from fedrevive_clusters.rendering import render as rendered

    _require_choice("TARGET", target, TARGETS)
    _require_choice("--kind", kind, KINDS)
    _require_search(search)
    local = target == "local"
    nodes = nodes or 3
    workers = _workers(worker_ips, nodes)
    plan = LaunchPlan(
        target=target,
        nodes=len(workers) + 1 if target == "onprem" else nodes,
        cpus_per_node=cpus or (max(1, available_cpus() // nodes) if local else 8),
        gpus_per_node=gpus if gpus is not None else int(not local),
        gpu_workers=gpu_workers,
        storage=read_storage(target, storage),
        search=search,
        head_ip=head_ip,
        worker_ips=workers,
        kind=kind,
        image=image or default_image(),
        wheel=wheel or default_wheel(),
        project=project,
        file=output.name if output else _SUFFIXES.get(target, f"{target}.yaml"),
    )
    require_hosts("--head-ip, --worker-ips", (head_ip, *workers))
    text = rendered(plan)
    if output is None:
        print(text, end="")
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output: {shown(str(output))}: {error.strerror}") from None


@cluster.command("validate")
def validate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A launch file.", callback=usable_path)],
    as_json: JsonOption = False,
) -> None:
    """Look for mistakes in a launch file without a cluster, a cloud or the network.

    Example: fedrevive cluster validate search.sbatch
    """
    from fedrevive_clusters.validation import check_file

    kind, mistakes = check_file(file)
    if as_json:
        print(json.dumps({"file": str(file), "kind": kind, "mistakes": mistakes}))
    elif not mistakes:
        print(f"{file}: {kind}: no mistake found")
    for mistake in mistakes:
        print(f"{PREFIX}{UserError(mistake, place=str(file))}", file=sys.stderr)
    if mistakes:
        raise typer.Exit(ExitCode.USER)


def _require_choice(name: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise UserError(
            f"{name}: {shown(given)} is not allowed; must be one of {', '.join(known)}{did_you_mean(given, known)}"
        )


def _require_search(search: str) -> None:
    """A name must be one of the package's; a file may exist only where the nodes see it."""
    from fedrevive_tuning.definition import search_names

    if "/" in search or search.endswith((".yaml", ".yml")):
        return
    if search not in search_names():
        raise UserError(
            f"--search: {shown(search)}: no such search (a file has a slash or ends in .yaml)"
            f"{did_you_mean(search, search_names())}"
        )


def _workers(given: str | None, nodes: int) -> tuple[str, ...]:
    """Addresses of the workers; documentation's (RFC 5737) when none are given."""
    if given is not None:
        return tuple(given.split(","))
    return tuple(f"192.0.2.{n}" for n in range(2, min(nodes, 254) + 1))

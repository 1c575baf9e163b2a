"""`fedrevive tune`, and how `fedrevive resume` goes on with a search."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedrevive.cli.jobs import SubmitOption, submit_search
from fedrevive.cli.option_values import count
from fedrevive.cli.run import AddressOption, DownloadOption, JsonOption, OutputOption
from fedrevive.settings.errors import UserError, shown
from fedrevive_tuning.definition import read_search, search_names

if TYPE_CHECKING:
    from fedrevive.cli.preflight import Offer
    from fedrevive.settings import ExperimentConfig
    from fedrevive_tuning.definition import Search
    from fedrevive_tuning.folder import SearchFolder
    from fedrevive_tuning.placement import Placement

SEARCH_HELP = f"A search that comes with the package ({', '.join(search_names())}) or a YAML file."
ConcurrentOption = Annotated[
    int | None,
    typer.Option("--concurrent", metavar="M", parser=count, help="Trials at once; default: as many as fit."),
]


def tune(
    search: Annotated[str, typer.Argument(metavar="SEARCH", help=SEARCH_HELP)],
    trials: Annotated[
        int | None,
        typer.Option("--trials", metavar="N", parser=count, help="search.trials: configurations to try"),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", metavar="0,1,2", help="search.seeds: experiment seeds of every trial"),
    ] = None,
    concurrent: ConcurrentOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with this search; refuse to begin a new one.")
    ] = False,
    output: OutputOption = None,
    download: DownloadOption = False,
    as_json: JsonOption = False,
    address: AddressOption = None,
    submit: SubmitOption = None,
) -> None:
    """Search hyperparameters; the same command again goes on where it was interrupted.

    Example: fedrevive tune digits --trials 12
    """
    from fedrevive.cli import preflight
    from fedrevive.cli.competitors import seed_list
    from fedrevive_tuning.folder import SearchFolder, is_search
    from fedrevive_tuning.validation import check_search

    chosen = read_search(search).with_options(
        trials=trials, seeds=None if seeds is None else seed_list(seeds)
    )
    columns = check_search(chosen)
    if submit is not None:
        if address is not None:
            raise UserError("--submit: the job finds its cluster by itself; leave out --address")
        numbers = {"--trials": trials, "--seeds": seeds, "--concurrent": concurrent, "--output": output}
        flags = {"--resume": resume, "--download": download, "--json": as_json}
        raise typer.Exit(submit_search(submit, search, chosen, {**numbers, **flags}))
    base = chosen.config({}, chosen.settings.seeds[0])
    directory = Path(output or f"results/tune-{base.name}-{chosen.identity()[:8]}")
    directory = directory if address is None else directory.absolute()  # working folders differ between nodes
    known = is_search(directory)
    if resume and not known:
        raise UserError(f"--resume: {shown(str(directory))} holds no search; leave --resume out to begin it")
    placement = _placement(chosen, base, concurrent, preflight.offer(address, directory))
    _require_data(chosen, download)
    folder = SearchFolder(directory)
    manifest = folder.manifest_of(chosen) if known else _manifest(chosen, columns, placement)
    _carry_out(folder, manifest, placement, as_json=as_json)


def resume_search(directory: Path, *, address: str | None, download: bool, as_json: bool) -> None:
    """Run the trials of a search that are not done."""
    from fedrevive.cli import preflight
    from fedrevive_tuning.definition import from_document
    from fedrevive_tuning.folder import SearchFolder, require_search
    from fedrevive_tuning.validation import check_search

    directory = directory if address is None else directory.absolute()
    search = from_document(require_search(directory)["document"])
    check_search(search)
    manifest = SearchFolder(directory).manifest_of(search)
    base = search.config({}, search.settings.seeds[0])
    placement = _placement(search, base, None, preflight.offer(address, directory))
    _require_data(search, download)
    _carry_out(SearchFolder(directory), manifest, placement, as_json=as_json)


def _placement(search: Search, base: ExperimentConfig, concurrent: int | None, given: Offer) -> Placement:
    from fedrevive.cli import preflight
    from fedrevive.pretrained import require_files
    from fedrevive_tuning.placement import place

    preflight.ray_environment()  # a search needs Ray even when its trials are inline
    if base.compute.executor == "ray":
        preflight.workers(base, given)
    preflight.nodes_find_data(base.task, given)
    require_files(base)
    seeds = len(search.settings.seeds)
    asked = partial(place, base, seeds=seeds, concurrent=concurrent, address=given.address)
    asked(cpus=given.cpus, gpus=0)  # errors before torch is imported
    gpus = _gpus(base, given)
    one_process = base.compute.executor == "inline"  # and so it needs both on one node
    cpus = given.cpus_beside_gpus if one_process and gpus and given.address is not None else given.cpus
    return asked(cpus=cpus or 0, gpus=gpus)


def _gpus(base: ExperimentConfig, given: Offer) -> int:
    if given.gpus is not None:
        return 0 if base.compute.device == "cpu" else given.gpus
    if (base.compute.device, base.compute.client_device) == ("cpu", "cpu"):
        return 0
    import torch

    from fedrevive.assemble import require_devices

    require_devices(base)
    return torch.cuda.device_count()


def _require_data(search: Search, download: bool) -> None:
    """Look for the data of every task, and the table of every trace, that the search can choose."""
    from fedrevive.cli import preflight
    from fedrevive.tasks import check_data, load_task
    from fedrevive_tuning.spaces import corner_points

    first = search.settings.seeds[0]
    points = [
        {p: v for p, v in point.items() if p.startswith(("task.", "delays."))}
        for point in corner_points(search.space)
    ]
    for point in (p for n, p in enumerate(points) if p not in points[:n]):
        config = search.config(point, first)
        preflight.delays(config)
        if download:
            load_task(config.task, first, download=True)
        check_data(config.task)


def _manifest(search: Search, columns: dict[str, str], placement: Placement) -> dict[str, Any]:
    """The plan of a new search, every configuration in it tried."""
    from fedrevive.cli import preflight
    from fedrevive_tuning.plan import horizon, new_manifest
    from fedrevive_tuning.sampling import planned_points
    from fedrevive_tuning.validation import checked_config

    points = planned_points(search)
    for point in points or ():
        checked_config(search, point, search.settings.seeds[0])
    return new_manifest(
        search,
        columns=columns,
        points=points,
        concurrent=placement.concurrent,
        horizon=horizon(search),
        details={**preflight.provenance(), "created_at": time.time()},
    )


def _carry_out(
    folder: SearchFolder, manifest: dict[str, Any], placement: Placement, *, as_json: bool
) -> None:
    from fedrevive.cli.interrupts import Interrupts
    from fedrevive.cli.search_report import SearchProgress, conclude
    from fedrevive_tuning.plan import Plan

    interrupts = Interrupts()
    interrupts.install()
    with folder.claimed(manifest):
        plan = Plan(folder)
        if plan.missing():
            from fedrevive.cli import preflight
            from fedrevive_tuning.search import run_search
            from fedrevive_tuning.warm_up import warm_up

            shared = warm_up(plan.search)
            print(placement.sentence(), file=sys.stderr)
            print(shared.sentence(plan.number), file=sys.stderr)
            sys.stderr.flush()
            run_search(
                plan,
                shared,
                placement,
                details=preflight.provenance(),
                interrupted=interrupts,
                ready=interrupts.install,
                observe=SearchProgress(plan),
            )
            if plan.missing():
                print(f"stopped; go on with: fedrevive resume {folder.directory}", file=sys.stderr)
                raise typer.Exit(interrupts.exit_code)
        else:
            print(f"already complete: {folder.directory}", file=sys.stderr)
        conclude(plan, as_json=as_json)

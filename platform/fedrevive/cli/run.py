"""`fedrevive run` and `fedrevive resume`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedrevive.cli.option_values import seed, usable_path
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import UserError
from fedrevive.settings.loading import parse_override, preset_names, split_words

if TYPE_CHECKING:
    from fedrevive.cli.preflight import Offer

SOURCE_HELP = f"A preset ({', '.join(preset_names())}) or a YAML file, then overrides such as server.lr=0.05."
Arguments = Annotated[list[str] | None, typer.Argument(metavar="[PRESET|FILE] [a.b=c ...]", help=SOURCE_HELP)]
ExecutorOption = Annotated[
    str | None, typer.Option("--executor", metavar="inline|ray", help="compute.executor")
]
WorkersOption = Annotated[
    str | None, typer.Option("--workers", metavar="N|auto", help="compute.workers: client actors")
]

OutputOption = Annotated[
    str | None, typer.Option("--output", metavar="DIR", help="Results folder.", callback=usable_path)
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on the last line of standard output.")
]
ChaosOption = Annotated[
    int | None,
    typer.Option(
        "--chaos",
        metavar="SEED",
        parser=seed,
        help="Kill actors at random while the run works; the results stay the same.",
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="auto|HOST:PORT",
        help="Compute on the Ray cluster that this machine belongs to, instead of a Ray of its own.",
    ),
]
DownloadOption = Annotated[bool, typer.Option("--download", help="Fetch public data that is missing.")]


def run(
    arguments: Arguments = None,
    executor: ExecutorOption = None,
    workers: WorkersOption = None,
    output: OutputOption = None,
    download: DownloadOption = False,
    as_json: JsonOption = False,
    chaos: ChaosOption = None,
    address: AddressOption = None,
) -> None:
    """Run one experiment.

    Example: fedrevive run digits algorithm.teacher_capacity=4 --workers 2
    """
    from fedrevive.cli import preflight
    from fedrevive.cli.execution import open_run
    from fedrevive.settings.identity import run_id

    config = configuration(arguments, executor=executor, workers=workers, output=output)
    _require_actors(chaos, address, config)
    folder = Path(config.output) if config.output else Path("results") / f"{config.name}-{run_id(config)}"
    given = preflight.offer(address)
    with open_run(config, folder, download=download, given=given) as store:
        carry_out(config, store, given, download=download, as_json=as_json, chaos_seed=chaos)


def resume(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Folder of a run, a comparison, a study or a search.", callback=usable_path
        ),
    ],
    executor: ExecutorOption = None,
    workers: WorkersOption = None,
    download: DownloadOption = False,
    as_json: JsonOption = False,
    chaos: ChaosOption = None,
    address: AddressOption = None,
) -> None:
    """Go on with an interrupted run, comparison, study or search.

    It ends with the results of the uninterrupted one, on any executor and any number of workers.

    Example: fedrevive resume results/digits-0123456789abcdef
    """
    from fedrevive.cli import preflight
    from fedrevive.pretrained import require_files
    from fedrevive.provenance import lane, versions
    from fedrevive.results.comparison_folder import KIND, STUDY, is_kind
    from fedrevive.results.store import RunStore
    from fedrevive.settings.loading import with_compute
    from fedrevive.tasks import check_data
    from fedrevive_tuning.folder import is_search

    flags = compute_flags(executor, workers)
    if chaos is not None and (is_search(directory) or is_kind(directory, KIND) or is_kind(directory, STUDY)):
        raise UserError(f"--chaos: {directory} holds more than one run; leave it out")
    if is_search(directory):
        from fedrevive.cli.tune import resume_search

        if flags:
            raise UserError("--executor, --workers: a search keeps its own; leave them out")
        resume_search(directory, address=address, download=download, as_json=as_json)
        return
    if is_kind(directory, KIND):
        from fedrevive.cli.compare import resume_comparison

        resume_comparison(directory, flags, address=address, download=download, as_json=as_json)
        return
    if is_kind(directory, STUDY):
        from fedrevive.cli.study import resume_study

        resume_study(directory, flags, address=address, download=download, as_json=as_json)
        return
    with RunStore.attach(directory) as store:
        config = with_compute(store.manifest["config"], flags)
        _require_actors(chaos, address, config)
        given = preflight.Offer(preflight.available_cpus())
        if not store.finished:
            given = preflight.offer(address)
            preflight.workers(config, given)
            preflight.delays(config)
            require_files(config)
            if not download:
                check_data(config.task)
        if (store.manifest["lane"], store.manifest["versions"]) != (lane(), versions()):
            print(
                "note: other hardware or package versions than at the start; the last bits may differ",
                file=sys.stderr,
            )
        carry_out(config, store, given, download=download, as_json=as_json, chaos_seed=chaos)


def _require_actors(chaos: int | None, address: str | None, config: ExperimentConfig) -> None:
    if chaos is not None and address is not None:
        raise UserError("--chaos: it kills processes of this machine only; leave out --address, or --chaos")
    if chaos is not None and config.compute.executor != "ray":
        raise UserError(
            "--chaos: it kills Ray actors, and compute.executor is inline; leave it out, or use ray"
        )


def configuration(arguments: list[str] | None, **flags: str | None) -> ExperimentConfig:
    """The configuration a command line asks for; flags are aliases of `compute.*` and `output`."""
    from fedrevive.settings.loading import load

    source, overrides = typed(arguments)
    named = compute_flags(flags.pop("executor", None), flags.pop("workers", None))
    named |= {key: value for key, value in flags.items() if value is not None}
    return load(source, overrides, named)


def typed(arguments: list[str] | None) -> tuple[str | None, list[str]]:
    """Preset or file, and overrides.

    Raises:
        UserError: nothing was typed, or two presets.
    """
    if not arguments:
        raise UserError(f"no experiment: name a preset ({', '.join(preset_names())}) or a YAML file")
    return split_words(arguments)


def compute_flags(executor: str | None, workers: str | None) -> dict[str, Any]:
    """`--executor` and `--workers` as dotted fields."""
    asked = workers and parse_override(f"compute.workers={workers}").value
    if workers and asked is None:
        raise UserError(f"compute.workers: {workers} is not an integer or 'auto'")
    flags = {"compute.executor": executor, "compute.workers": asked}
    return {path: value for path, value in flags.items() if value is not None}


def carry_out(
    config: ExperimentConfig,
    store: Any,
    given: Offer,
    *,
    download: bool,
    as_json: bool,
    chaos_seed: int | None = None,
) -> None:
    """Run to the end, or to the snapshot an interruption asked for, and print the outcome."""
    from fedrevive.cli.execution import records
    from fedrevive.cli.interrupts import Interrupts
    from fedrevive.cli.outcome import show_outcome
    from fedrevive.cli.progress import RunProgress

    chaos = None
    if chaos_seed is not None:
        from fedrevive.runtime.chaos import Chaos

        chaos = Chaos(chaos_seed)
    if store.finished:
        print(f"already complete: {store.directory}", file=sys.stderr)
    else:
        interrupts = Interrupts()
        interrupts.install()
        with RunProgress(config) as progress:
            for record in records(
                config,
                store,
                download=download,
                interrupted=interrupts,
                ready=interrupts.install,
                given=given,
                chaos=chaos,
            ):
                progress.show(record)
        if not store.finished:
            print(f"stopped; go on with: fedrevive resume {store.directory}", file=sys.stderr)
            raise typer.Exit(interrupts.exit_code)
    outcome = {"dir": str(store.directory), **store.manifest["summary"], "hashes": store.manifest["hashes"]}
    if chaos:
        outcome["chaos"] = chaos.killed
    if as_json:
        print(json.dumps(outcome))
    else:
        show_outcome(config, outcome)

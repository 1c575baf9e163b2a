"""Several algorithms and seeds on one timeline per seed: run side by side, then set beside each other.

A comparison's folder holds `manifest.json` (what is compared), `runs/<run_id>/` (ordinary run folders), and at the
end `comparison.parquet` and `accuracy.png`. A label may have a grid of configurations: all of them run on the first
seed, and the one with the best validation accuracy runs on the others. Complete runs are kept, so starting a
comparison again goes on.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from fedrevive.core.process import configure_process
from fedrevive.core.target import window
from fedrevive.followed_run import RunIdentity, RunStatus, run_inline, run_on
from fedrevive.results.comparison_folder import TABLE, Entry, seal, unseal
from fedrevive.results.figures import accuracy_figure
from fedrevive.results.manifest import read_manifest
from fedrevive.results.reading import read_table
from fedrevive.results.statistics import comparison_rows
from fedrevive.results.store import is_complete
from fedrevive.results.tables import final_mean, read_runs, summary, write_runs
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.algorithm import is_oracle
from fedrevive.simulation.delays import NANOSECONDS
from fedrevive.tasks import load_task

FIGURE = "accuracy.png"
AUTO_TARGET = 0.9
"""Without evaluation.target_accuracy, the target is this share of the best competitor's mean final accuracy; controls
and oracles do not count. Ours."""


@dataclass(frozen=True)
class Outcome:
    """What a finished comparison says."""

    rows: list[dict[str, Any]]
    """One per label, see `results.statistics.comparison_rows`, with the `configuration` it was judged by; differences
    are to the first label."""
    target: float
    """Accuracy behind time_to_target."""
    target_is_auto: bool


Runner = Callable[[Entry], Iterator[RunStatus]]
"""Carries out one run after the other."""


@dataclass(frozen=True)
class Machinery:
    """Where the runs of a comparison are carried out."""

    lanes: int
    """Runs side by side on Ray; inline runs go one after the other."""
    workers: int
    """Client actors per lane. With one, the whole run takes place in a single actor: nothing is gained by moving
    models between processes that share a CPU."""
    cpus: int
    """CPUs of this machine, or of the cluster."""
    download: bool
    """Fetch missing data."""
    address: str | None = None
    """Head of a cluster, host:port; None = a Ray of our own."""


def run_stages(
    stages: Iterable[Sequence[Entry]],
    configs: Sequence[ExperimentConfig],
    open_as: Callable[[Entry], RunIdentity],
    machinery: Machinery,
    *,
    interrupted: Callable[[], bool],
    ready: Callable[[], None],
    observe: Callable[[Entry, RunStatus], None],
) -> None:
    """Carry out all runs that are not complete yet, stage after stage; returns early when interrupted.

    Args:
        stages: runs, each stage asked for when the one before is complete; expensive runs should stand first.
        configs: configurations of all runs; where they compute is the same for all.
        open_as: folder and manifest of an entry's run.
        machinery: where to compute.
        interrupted: asked all the time.
        ready: called once the executors are up.
        observe: told how far each run is, from several threads.
    """
    configure_process()
    waiting: queue.SimpleQueue[Entry] = queue.SimpleQueue()
    failures: list[BaseException] = []

    def stop() -> bool:
        return interrupted() or bool(failures)

    def work(run: Runner) -> None:
        try:
            while not stop():
                entry = waiting.get_nowait()
                for status in run(entry):
                    observe(entry, status)
        except queue.Empty:
            return
        except BaseException as error:  # handed to the main thread, which raises it
            failures.append(error)

    with _runners(configs, open_as, machinery, stop) as runners:
        ready()
        for entries in stages:
            for entry in entries:
                waiting.put(entry)
            _in_threads(work, runners)
            if stop():
                break
    if failures:
        raise failures[0]


def tuning(entries: Sequence[Entry]) -> list[Entry]:
    """Runs that selection looks at: every configuration of a competitor with several, on the first seed."""
    points: dict[str, set[str]] = {}
    for entry in entries:
        if not entry.follows:
            points.setdefault(entry.label, set()).add(entry.point)
    first = entries[0].config.seed
    return [entry for entry in entries if len(points.get(entry.label, ())) > 1 and entry.config.seed == first]


def selected(directory: Path, entries: Sequence[Entry]) -> list[Entry]:
    """The runs that are reported: per label the configuration with the best validation accuracy on the first seed.

    Test accuracy is never looked at; the first configuration wins ties. A control has the configuration of the label it
    follows, so it shows what its one change does.
    """
    best: dict[str, tuple[float, str]] = {}
    for entry in tuning(entries):
        accuracy = _validation_accuracy(entry, read_table(entry.folder(directory), "evaluations"))
        if entry.label not in best or accuracy > best[entry.label][0]:
            best[entry.label] = (accuracy, entry.point)
    judged = {label: point for label, (_, point) in best.items()}
    return [
        entry for entry in entries if judged.get(entry.follows or entry.label, entry.point) == entry.point
    ]


def conclude(directory: Path, entries: Sequence[Entry]) -> Outcome:
    """Write the table and the picture of a complete comparison."""
    chosen = selected(directory, entries)
    complete = [entry for entry in entries if is_complete(entry.folder(directory))]
    evaluations = {entry.run_id: read_table(entry.folder(directory), "evaluations") for entry in complete}
    manifests = {entry.run_id: read_manifest(entry.folder(directory)) for entry in complete}
    target, target_is_auto = _target(chosen, manifests)
    rows = [
        {
            **_row(entry, manifests[entry.run_id], evaluations[entry.run_id], target),
            "selected": entry in chosen,
        }
        for entry in complete
    ]
    unseal(directory)
    write_runs(directory / TABLE, rows)
    curves: dict[str, list[tuple[Any, Any]]] = {}
    for entry in chosen:
        table = evaluations[entry.run_id]
        times = table.column("virtual_time").to_numpy() / NANOSECONDS
        curves.setdefault(entry.label, []).append((times, table.column("test_accuracy").to_numpy()))
    title = (
        f"{entries[0].config.name}: {entries[0].config.task.name}, {len(next(iter(curves.values())))} seeds"
    )
    accuracy_figure(curves, target, title, directory / FIGURE)
    seal(directory, (TABLE, FIGURE))
    runs = read_runs(directory / TABLE)
    reported = comparison_rows(runs.filter(runs.column("selected")))
    points = {entry.label: entry.point for entry in chosen}
    return Outcome(
        [{**row, "configuration": points[row["label"]]} for row in reported], target, target_is_auto
    )


def _target(chosen: Sequence[Entry], manifests: Mapping[str, Mapping[str, Any]]) -> tuple[float, bool]:
    """The accuracy behind time to target, and whether it follows from the runs."""
    given = chosen[0].config.evaluation.target_accuracy
    if given is not None:
        return given, False
    finals: dict[str, list[float]] = {}
    for entry in [entry for entry in chosen if _competes(entry)] or chosen:
        finals.setdefault(entry.label, []).append(manifests[entry.run_id]["summary"]["final_accuracy"])
    return AUTO_TARGET * max(sum(values) / len(values) for values in finals.values()), True


def _competes(entry: Entry) -> bool:
    return not entry.follows and not is_oracle(entry.config.algorithm)


def _validation_accuracy(entry: Entry, evaluations: pa.Table) -> float:
    """What selection looks at."""
    return final_mean(evaluations, "validation_accuracy", window(entry.config))


@contextmanager
def _runners(
    configs: Sequence[ExperimentConfig],
    open_as: Callable[[Entry], RunIdentity],
    machinery: Machinery,
    stop: Callable[[], bool],
) -> Iterator[list[Runner]]:
    if configs[0].compute.executor == "inline":
        yield [lambda entry: run_inline(entry.config, open_as(entry), machinery.download, stop)]
        return
    if machinery.workers == 1:
        from fedrevive.runtime.run_actor import run_lanes

        with run_lanes(
            configs[0], lanes=machinery.lanes, cpus=machinery.cpus, address=machinery.address
        ) as lanes:
            yield [
                lambda entry, lane=lane: lane.run(entry.config, open_as(entry), machinery.download, stop)  # type: ignore[misc]
                for lane in lanes
            ]
        return
    from fedrevive.runtime.launch import executor_lanes

    data = load_task(configs[0].task, configs[0].seed, machinery.download)
    with executor_lanes(
        configs,
        data,
        lanes=machinery.lanes,
        workers=machinery.workers,
        cpus=machinery.cpus,
        address=machinery.address,
    ) as factories:
        yield [
            lambda entry, make=make: run_on(make, entry.config, open_as(entry), machinery.download, stop)  # type: ignore[misc]
            for make in factories
        ]


def _in_threads(work: Callable[[Runner], None], runners: Sequence[Runner]) -> None:
    if len(runners) == 1:
        work(runners[0])
        return
    threads = [threading.Thread(target=work, args=(run,), daemon=True) for run in runners]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for thread in threads:
            thread.join(timeout=0.2)  # short waits, so that this thread still handles signals


def _row(entry: Entry, manifest: dict[str, Any], evaluations: Any, target: float) -> dict[str, Any]:
    outcome, hashes = manifest["summary"], manifest["hashes"]
    end = round(outcome["virtual_time"] * NANOSECONDS)
    reached = summary(evaluations, target_accuracy=target, end_time_ns=end, window=window(entry.config))[
        "time_to_target"
    ]
    copied = (
        "arrivals versions virtual_time final_accuracy best_accuracy auc wall_seconds client_flops server_flops "
        "client_cpu_seconds server_cpu_seconds"
    )
    return {
        "label": entry.label,
        "configuration": entry.point,
        "follows": entry.follows or None,
        "oracle": is_oracle(entry.config.algorithm),
        "validation_accuracy": _validation_accuracy(entry, evaluations),
        "algorithm": entry.config.algorithm.name,
        "seed": entry.config.seed,
        "run_id": entry.run_id,
        "status": "complete",
        **{name: outcome[name] for name in copied.split()},
        "time_to_target": reached,
        "censored": reached is None,
        **{f"{name}_hash": hashes[name] for name in ("arrivals", "evaluations", "model")},
    }

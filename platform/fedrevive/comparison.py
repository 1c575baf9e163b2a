"""Several algorithms and seeds on one timeline per seed: run side by side, then set beside each other.

A comparison's folder holds `manifest.json` (what is compared), `runs/<run_id>/` (ordinary run folders), and at the
end `comparison.parquet` and `accuracy.png`. A label may have a grid of configurations: all of them run on the first
seed, and the one with the best validation accuracy runs on the others. Complete runs are kept, so starting a
comparison again goes on.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fedrevive.assemble import client_trainer, server
from fedrevive.core.process import configure_process
from fedrevive.core.target import WINDOW
from fedrevive.experiment import run_experiment
from fedrevive.results.comparison_folder import TABLE, Entry
from fedrevive.results.figures import accuracy_figure
from fedrevive.results.manifest import read_manifest
from fedrevive.results.reading import read_table
from fedrevive.results.statistics import comparison_rows
from fedrevive.results.store import RunStore, is_complete
from fedrevive.results.tables import read_runs, summary, write_runs
from fedrevive.settings import ExperimentConfig
from fedrevive.simulation.delays import NANOSECONDS
from fedrevive.simulation.executor import Executor, InlineExecutor
from fedrevive.simulation.records import Record
from fedrevive.tasks import load_task
from fedrevive.tasks.federated import FederatedData

FIGURE = "accuracy.png"
AUTO_TARGET = 0.95
"""Without evaluation.target_accuracy, the target is this share of the best mean final accuracy. Ours."""


@dataclass(frozen=True)
class Outcome:
    """What a finished comparison says."""

    rows: list[dict[str, Any]]
    """One per label, see `results.statistics.comparison_rows`, with the `configuration` it was judged by; differences
    are to the first label."""
    target: float
    """Accuracy behind time_to_target."""
    target_is_auto: bool


ExecutorFactory = Callable[[ExperimentConfig, FederatedData], Executor]
Observer = Callable[[Entry, Record], None]


def run_stages(
    stages: Iterable[Sequence[Entry]],
    configs: Sequence[ExperimentConfig],
    open_store: Callable[[Entry], RunStore],
    *,
    lanes: int,
    workers: int,
    cpus: int,
    download: bool,
    interrupted: Callable[[], bool],
    ready: Callable[[], None],
    observe: Observer,
) -> None:
    """Carry out all runs that are not complete yet, stage after stage; returns early when interrupted.

    Args:
        stages: runs, each stage asked for when the one before is complete; expensive runs should stand first.
        configs: configurations of all runs; where they compute is the same for all.
        open_store: opens an entry's run folder.
        lanes: runs side by side on Ray; inline runs go one after the other.
        workers: client actors per lane.
        cpus: CPUs of this machine.
        download: fetch missing data.
        interrupted: asked after every arrival of every run.
        ready: called once the executors are up.
        observe: told of every record, from several threads.
    """
    configure_process()
    waiting: queue.SimpleQueue[Entry] = queue.SimpleQueue()
    failures: list[BaseException] = []

    def stop() -> bool:
        return interrupted() or bool(failures)

    def work(make: ExecutorFactory) -> None:
        try:
            while not stop():
                _run_entry(waiting.get_nowait(), open_store, make, download, stop, observe)
        except queue.Empty:
            return
        except BaseException as error:  # handed to the main thread, which raises it
            failures.append(error)

    data = load_task(configs[0].task, configs[0].seed, download)
    with _factories(configs, data, lanes=lanes, workers=workers, cpus=cpus) as factories:
        ready()
        for entries in stages:
            for entry in entries:
                waiting.put(entry)
            _in_threads(work, factories)
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
        accuracy = _validation_accuracy(read_table(entry.folder(directory), "evaluations"))
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
    finals: dict[str, list[float]] = {}
    for entry in chosen:
        finals.setdefault(entry.label, []).append(manifests[entry.run_id]["summary"]["final_accuracy"])
    given = entries[0].config.evaluation.target_accuracy
    target = given or AUTO_TARGET * max(sum(values) / len(values) for values in finals.values())
    rows = [
        {
            **_row(entry, manifests[entry.run_id], evaluations[entry.run_id], target),
            "selected": entry in chosen,
        }
        for entry in complete
    ]
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
    runs = read_runs(directory / TABLE)
    reported = comparison_rows(runs.filter(runs.column("selected")))
    points = {entry.label: entry.point for entry in chosen}
    return Outcome(
        [{**row, "configuration": points[row["label"]]} for row in reported], target, given is None
    )


def _validation_accuracy(evaluations: pa.Table) -> float:
    """Mean of the last 10 validation accuracies."""
    return float(np.mean(evaluations.column("validation_accuracy").to_numpy()[-WINDOW:]))


@contextmanager
def _factories(
    configs: Sequence[ExperimentConfig], data: FederatedData, *, lanes: int, workers: int, cpus: int
) -> Iterator[list[ExecutorFactory]]:
    if configs[0].compute.executor == "inline":
        yield [lambda config, data: InlineExecutor(server(config, data), client_trainer(config, data))]
        return
    from fedrevive.runtime.launch import executor_lanes

    with executor_lanes(configs, data, lanes=lanes, workers=workers, cpus=cpus) as factories:
        yield factories


def _in_threads(work: Callable[[ExecutorFactory], None], factories: Sequence[ExecutorFactory]) -> None:
    if len(factories) == 1:
        work(factories[0])
        return
    threads = [threading.Thread(target=work, args=(make,), daemon=True) for make in factories]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for thread in threads:
            thread.join(timeout=0.2)  # short waits, so that this thread still handles signals


def _run_entry(
    entry: Entry,
    open_store: Callable[[Entry], RunStore],
    make: ExecutorFactory,
    download: bool,
    interrupted: Callable[[], bool],
    observe: Observer,
) -> None:
    with ExitStack() as stack:
        store = stack.enter_context(open_store(entry))
        if store.finished:
            return
        executor = make(entry.config, load_task(entry.config.task, entry.config.seed, download))
        for record in run_experiment(entry.config, store, executor, interrupted=interrupted):
            observe(entry, record)


def _row(entry: Entry, manifest: dict[str, Any], evaluations: Any, target: float) -> dict[str, Any]:
    outcome, hashes = manifest["summary"], manifest["hashes"]
    end = round(outcome["virtual_time"] * NANOSECONDS)
    reached = summary(evaluations, target_accuracy=target, end_time_ns=end)["time_to_target"]
    copied = (
        "arrivals versions virtual_time final_accuracy best_accuracy auc wall_seconds client_flops server_flops "
        "client_cpu_seconds server_cpu_seconds"
    )
    return {
        "label": entry.label,
        "configuration": entry.point,
        "validation_accuracy": _validation_accuracy(evaluations),
        "algorithm": entry.config.algorithm.name,
        "seed": entry.config.seed,
        "run_id": entry.run_id,
        "status": "complete",
        **{name: outcome[name] for name in copied.split()},
        "time_to_target": reached,
        "censored": reached is None,
        **{f"{name}_hash": hashes[name] for name in ("arrivals", "evaluations", "model")},
    }

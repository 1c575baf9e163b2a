"""Whole simulated runs as `fedrevive run` does them, on Ray or inline, into a run folder, beside a tight loop."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.compute as pc

from fedrevive.benchmark.measuring import Row, Sample, agreed, further, interleaved, row
from fedrevive.benchmark.problems import (
    FEDAVG_CNN,
    LONG_JOB,
    RESNET,
    SHORT_JOB,
    SMALL_CNN,
    random_data,
    simulated,
)
from fedrevive.benchmark.processes import ProcessorClock, helpers, peak_memory
from fedrevive.benchmark.session import Bench
from fedrevive.benchmark.sizes import WORKERS, SimulationSize
from fedrevive.experiment import run_experiment
from fedrevive.followed_run import ExecutorFactory, inline_executor
from fedrevive.results.reading import read_table
from fedrevive.results.store import RunStore
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.identity import run_id
from fedrevive.simulation.records import ArrivalRecord

UTILISATION = {
    "workers_busy": "share",
    "server_busy": "share",
    "critical_path": "s",
}
PER_UPDATE = "CPU-ms/update"


def simulated_sample(make: ExecutorFactory, config: ExperimentConfig) -> Sample:
    """One whole run on an executor whose processes are up; the clock starts when the executor is ready.

    Counted are all processes of this tree, Ray's own too, until the last record: training, server, transport, both
    evaluations and the files.
    """
    assert config.stop.arrivals is not None
    data = random_data(config)
    with tempfile.TemporaryDirectory(prefix="fedrevive-bench-") as folder:
        manifest = {"run_id": run_id(config), "config": config.model_dump(mode="json")}
        with RunStore.open(Path(folder) / "run", manifest=manifest) as store:
            called = time.perf_counter()
            executor = make(config, data)
            cpu, clock = ProcessorClock(), time.perf_counter()
            first = None
            for record in run_experiment(config, store, executor):
                if first is None and isinstance(record, ArrivalRecord):
                    first = time.perf_counter()
            seconds = time.perf_counter() - clock
            used, shares = cpu.seconds(), store.manifest["summary"]["utilisation"]
            training = _training_ms(Path(folder) / "run")
            checksum = "-".join(store.manifest["hashes"][name][:16] for name in ("arrivals", "model"))
    return Sample(
        cpu_ms=1e3 * used / config.stop.arrivals,
        wall_ms=1e3 * seconds / config.stop.arrivals,
        checksum=checksum,
        more={
            "workers_busy": shares["workers"],
            "server_busy": shares["server"],
            "critical_path": shares["critical_path_seconds"],
            "first_arrival": (first or clock) - called,
            "machinery": (1e3 * used - training) / config.stop.arrivals,
        },
    )


def _training_ms(run: Path) -> float:
    """Processor time of all client jobs of a run."""
    timings = read_table(run, "timings")
    of_training = pc.equal(timings.column("kind"), "train")
    return float(pc.sum(timings.column("cpu_ms").filter(of_training)).as_py())


def sim_small(bench: Bench) -> list[Row]:
    """B2."""
    return _on_ray(bench, simulated(SMALL_CNN, bench.sizes.small, SHORT_JOB))


def sim_wide(bench: Bench) -> list[Row]:
    """B3."""
    return _on_ray(bench, simulated(SMALL_CNN, bench.sizes.wide, SHORT_JOB))


def sim_mid(bench: Bench) -> list[Row]:
    """B4."""
    return _on_ray(bench, simulated(FEDAVG_CNN, bench.sizes.mid, SHORT_JOB))


def sim_large(bench: Bench) -> list[Row]:
    """B5."""
    return _on_ray(bench, simulated(RESNET, bench.sizes.large, LONG_JOB))


def sim_inline(bench: Bench) -> list[Row]:
    """B2 inside this process, beside one process of the tight loop."""
    config = simulated(SMALL_CNN, bench.sizes.small, SHORT_JOB)
    simulated_sample(inline_executor, _shortened(config, bench))
    return _beside_ceiling(bench, config, inline_executor, processes=1)


def determinism(bench: Bench) -> list[Row]:
    """B9: one row; ours = distinct results among inline, one worker and two, which must be 1."""
    small = bench.sizes.small
    size = SimulationSize(small.clients, small.concurrency, bench.sizes.determinism_arrivals)
    config = simulated(SMALL_CNN, size, SHORT_JOB)
    samples = [simulated_sample(inline_executor, config)]
    for workers in (1, WORKERS):
        with bench.lane(config, workers) as make:
            samples.append(simulated_sample(make, config))
    return [row("distinct_results", "count", [1.0], checksum=agreed("determinism", samples))]


def ceiling(bench: Bench) -> list[Row]:
    """B1: two processes (ours) beside one (reference)."""
    config = simulated(SMALL_CNN, bench.sizes.small, SHORT_JOB)

    def loop(processes: int) -> Sample:
        updates, warm_up = bench.sizes.small.arrivals, _warm_up(config, bench)
        return bench.loops.measure(config, processes, warm_up=warm_up, updates=updates)

    taken = interleaved({"two": lambda: loop(WORKERS), "one": lambda: loop(1)}, bench.sizes.repetitions)
    two, one = taken["two"], taken["one"]
    return [
        row(
            "two_processes",
            PER_UPDATE,
            [s.cpu_ms for s in two],
            [s.cpu_ms for s in one],
            checksum=two[0].checksum,
        ),
        row(
            "throughput",
            "updates/s",
            [1e3 / s.wall_ms for s in two],
            [1e3 / s.wall_ms for s in one],
            more_is_better=True,
        ),
    ]


def _on_ray(bench: Bench, config: ExperimentConfig) -> list[Row]:
    clock = time.perf_counter()
    with bench.lane(config, WORKERS) as make:
        opened = time.perf_counter() - clock
        cold = simulated_sample(make, _shortened(config, bench))
        rows = _beside_ceiling(bench, config, make, processes=WORKERS)
    started = bench.ray_seconds + opened + cold.more["first_arrival"]
    return [*rows, row("first_arrival", "s", [started])]


def _beside_ceiling(
    bench: Bench, config: ExperimentConfig, make: ExecutorFactory, *, processes: int
) -> list[Row]:
    assert config.stop.arrivals is not None
    updates, warm_up = config.stop.arrivals, _warm_up(config, bench)
    loops = bench.loops  # started before the watch, which leaves them out
    with _watched() as memory:
        taken = interleaved(
            {
                "ours": lambda: simulated_sample(make, config),
                "ceiling": lambda: loops.measure(config, processes, warm_up=warm_up, updates=updates),
            },
            bench.sizes.repetitions,
        )
    ours, reference = taken["ours"], taken["ceiling"]
    rate = [1e3 / s.wall_ms for s in ours], [1e3 / s.wall_ms for s in reference]
    peak = max(s.more["peak_pss"] for s in reference)
    return [
        row(
            "efficiency",
            PER_UPDATE,
            [s.cpu_ms for s in ours],
            [s.cpu_ms for s in reference],
            checksum=ours[0].checksum,
        ),
        row("throughput", "updates/s", *rate, more_is_better=True),
        row("peak_memory", "MB PSS", memory, [peak]),
        *further(ours, UTILISATION),
    ]


@contextmanager
def _watched() -> Iterator[list[float]]:
    """A list that holds the peak memory of this tree in MB once the block is over."""
    found: list[float] = []
    with peak_memory(os.getpid(), helpers()) as peak:
        yield found
    found.append(peak.megabytes)


def _warm_up(config: ExperimentConfig, bench: Bench) -> int:
    """Jobs before anything is measured: at most a quarter of the run, at least one per worker."""
    assert config.stop.arrivals is not None
    return max(WORKERS, min(bench.sizes.warm_up_arrivals, config.stop.arrivals // 4))


def _shortened(config: ExperimentConfig, bench: Bench) -> ExperimentConfig:
    stop = config.stop.model_copy(update={"arrivals": _warm_up(config, bench)})
    return config.model_copy(update={"stop": stop})

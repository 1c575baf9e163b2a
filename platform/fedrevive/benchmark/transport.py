"""B7: what it costs to move a model to a worker and an update back."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from functools import partial

import numpy as np

from fedrevive.benchmark.measuring import Row, Sample, interleaved, row
from fedrevive.benchmark.processes import ProcessorClock
from fedrevive.benchmark.session import Bench
from fedrevive.core.messages import FloatVector


def transport(bench: Bench) -> list[Row]:
    """Round trips one after the other, by size; the reference does the actor's arithmetic and one copy in process."""
    bench.start_ray()
    from fedrevive.runtime.echo_actor import Echo

    rows = []
    with closing(Echo()) as echo:
        for name, size in bench.sizes.transport_bytes.items():
            model: FloatVector = np.zeros(size // 4, np.float32)
            trips = bench.sizes.round_trips
            echo.round_trip(model)
            cases = {
                "ray": partial(_sample, ProcessorClock, echo.round_trip, model, trips),
                "copy": partial(_sample, _OwnClock, _copied, model, trips),
            }
            taken = interleaved(cases, bench.sizes.repetitions)
            for metric, unit, values in (
                ("cpu", "CPU-ms/round trip", {key: [s.cpu_ms for s in own] for key, own in taken.items()}),
                ("time", "ms/round trip", {key: [s.wall_ms for s in own] for key, own in taken.items()}),
            ):
                rows.append(row(f"{metric}_{name}", unit, values["ray"], values["copy"]))
    return rows


class _OwnClock:
    """Processor time of this process alone, finer than 10 ms."""

    def __init__(self) -> None:
        self._before = time.process_time()

    def seconds(self) -> float:
        return time.process_time() - self._before


def _copied(model: FloatVector) -> FloatVector:
    copied: FloatVector = model.copy() + np.float32(1)
    return copied


def _sample(
    processor: type[ProcessorClock] | type[_OwnClock],
    trip: Callable[[FloatVector], FloatVector],
    model: FloatVector,
    trips: int,
) -> Sample:
    cpu, clock = processor(), time.perf_counter()
    for _ in range(trips):
        answer = trip(model)
    seconds = time.perf_counter() - clock
    checksum = str(float(answer.sum(dtype=np.float64)))
    return Sample(1e3 * cpu.seconds() / trips, 1e3 * seconds / trips, checksum)

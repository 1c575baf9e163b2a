"""B6: the timeline alone, its random streams included; nothing is trained."""

from __future__ import annotations

import time
from functools import partial

from fedrevive.algorithms.server_algorithm import dispatch_of
from fedrevive.benchmark.measuring import Row, Sample, interleaved, row
from fedrevive.benchmark.problems import SHORT_JOB, SMALL_CNN, simulated
from fedrevive.benchmark.session import Bench
from fedrevive.benchmark.sizes import SimulationSize
from fedrevive.simulation.planning import schedule
from fedrevive.simulation.timeline import Timeline

BUSY_SHARE = 0.1
"""Of the clients, in flight at any time."""


def events(bench: Bench) -> list[Row]:
    """Events per second from an empty timeline on, and the cost of an arrival once it is full, by number of clients.

    Events are dispatches, ends of training and uploads. The smallest number of clients is the reference.
    """
    sizes = bench.sizes
    _played(sizes.event_clients[0], sizes.event_arrivals)  # what is imported on the way is not counted
    cases = {str(clients): partial(_played, clients, sizes.event_arrivals) for clients in sizes.event_clients}
    taken = interleaved(cases, sizes.repetitions)
    smallest = taken[str(sizes.event_clients[0])]
    rows = []
    for name, samples in taken.items():
        rate, arrival = ([s.more[key] for s in samples] for key in ("rate", "arrival"))
        rates = [s.more["rate"] for s in smallest]
        checksum = samples[0].checksum
        rows.append(
            row(f"rate_{name}_clients", "events/CPU-s", rate, rates, more_is_better=True, checksum=checksum)
        )
        rows.append(row(f"arrival_{name}_clients", "CPU-us", arrival, [s.more["arrival"] for s in smallest]))
    return [*rows, _planned(bench)]


def _played(clients: int, arrivals: int) -> Sample:
    size = SimulationSize(clients, int(clients * BUSY_SHARE), arrivals)
    config = simulated(SMALL_CNN, size, SHORT_JOB)
    clock, began = time.perf_counter(), time.process_time()
    timeline = Timeline(config, dispatch_of(config.algorithm))
    filled = time.process_time()
    while timeline.arrivals < arrivals:
        timeline.advance()
    ended = time.process_time()
    wall = time.perf_counter() - clock
    count = size.concurrency + 3 * arrivals
    more = {"rate": count / (ended - began), "arrival": 1e6 * (ended - filled) / arrivals}
    return Sample(1e3 * (ended - began) / arrivals, 1e3 * wall / arrivals, str(timeline.now), more)


def _planned(bench: Bench) -> Row:
    """Seconds to plan a long run of the largest number of clients."""
    clients, arrivals = bench.sizes.event_clients[-1], bench.sizes.planned_arrivals
    config = simulated(SMALL_CNN, SimulationSize(clients, clients // 100, arrivals), SHORT_JOB)

    def plan() -> Sample:
        cpu, clock = time.process_time(), time.perf_counter()
        planned = schedule(config)
        seconds = time.process_time() - cpu, time.perf_counter() - clock
        return Sample(1e3 * seconds[0], 1e3 * seconds[1], checksum=str(planned.accepted_at[-1]))

    samples = interleaved({"plan": plan}, bench.sizes.repetitions)["plan"]
    seconds = [sample.wall_ms / 1e3 for sample in samples]
    return row(f"plan_{arrivals}_arrivals", "s", seconds, checksum=samples[0].checksum)

"""What a run will look like, without training: its timeline, its parallelism and its work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedrevive.algorithms.server_algorithm import dispatch_of
from fedrevive.core.flops import ArrivalWork, arrival_flops
from fedrevive.core.schedules import BetaSchedule, beta_schedule, gates
from fedrevive.core.teachers import PROBED_UPLOADS
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.algorithm import FedReviveSettings
from fedrevive.simulation.delays import NANOSECONDS
from fedrevive.simulation.timeline import Timeline

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Schedule:
    """The accepted uploads of a run, each column [arrivals]."""

    client: Int64
    base_arrivals: Int64
    """Uploads accepted when the job was dispatched."""
    accepted_at: Int64
    """Virtual nanoseconds."""
    updates_per_version: int

    @property
    def staleness(self) -> Int64:
        """Server versions between dispatch and acceptance (no upload is rejected in a plan)."""
        sequence = np.arange(len(self.client))
        return sequence // self.updates_per_version - self.base_arrivals // self.updates_per_version


@dataclass(frozen=True)
class Parallelism:
    """How many workers a run can keep busy: total work over the longest chain of dependent work."""

    clients: float
    """With server steps free: the bound for cheap algorithms."""
    with_server: float
    """With server steps charged at their FLOPs, in units of work that one processor does after the other."""
    critical_path_flops: float
    """The longest chain, clients and server."""


def schedule(config: ExperimentConfig) -> Schedule:
    """Play the timeline to the stop condition.

    Raises:
        ValueError: only stop.target_accuracy is set, which no plan can foresee.
    """
    stop = config.stop
    if stop.arrivals is None and stop.virtual_time is None:
        raise ValueError("stop: a plan needs stop.arrivals or stop.virtual_time")
    most = stop.arrivals if stop.arrivals is not None else 2**62
    horizon = 2**62 if stop.virtual_time is None else int(stop.virtual_time * NANOSECONDS)
    timeline = Timeline(config, dispatch_of(config.algorithm))
    rows: list[tuple[int, int, int]] = []
    while timeline.arrivals < most and timeline.next_arrival_at() <= horizon:
        task = timeline.advance().task
        rows.append((task.client_id, task.base_arrivals, task.arrives_at))
    columns = np.array(rows, dtype=np.int64).reshape(len(rows), 3)
    return Schedule(columns[:, 0], columns[:, 1], columns[:, 2], config.updates_per_version)


def beta_of(config: ExperimentConfig) -> BetaSchedule | None:
    """The algorithm's beta(tau), or None."""
    algorithm = config.algorithm
    if algorithm.name not in ("fedrevive", "afl_dw"):
        return None
    return beta_schedule(
        algorithm.beta,
        concurrency=config.server.concurrency,
        updates_per_version=config.updates_per_version,
    )


def server_flops(
    config: ExperimentConfig, planned: Schedule, forward_flops: int, input_shape: tuple[int, int, int]
) -> Float64:
    """Server operations per arrival [arrivals]; 0 for algorithms that only average.

    Args:
        config: the experiment.
        planned: its schedule.
        forward_flops: forward pass of the client model for one sample.
        input_shape: (C, H, W) of one sample.
    """
    algorithm = config.algorithm
    if not isinstance(algorithm, FedReviveSettings):
        return np.zeros(len(planned.client))
    gate = gates(algorithm, concurrency=config.server.concurrency)
    beta = beta_of(config)
    assert beta is not None
    uploads = np.zeros(config.task.clients, np.int64)
    generated, pooled = -1, False
    cache: dict[ArrivalWork, float] = {}
    flops = np.empty(len(planned.client))
    for sequence, (client, staleness) in enumerate(zip(planned.client, planned.staleness, strict=True)):
        version = sequence // planned.updates_per_version
        active = beta(int(staleness)) > 0
        synthesised = active and gate.synthesises(version, generated)
        if synthesised:
            generated, pooled = version, True
        work = ArrivalWork(
            teachers=min(sequence + 1, algorithm.teacher_capacity),
            probed=bool(uploads[client] < PROBED_UPLOADS),
            synthesised=synthesised,
            adversarial=gate.adversarial(version) and algorithm.weights.adversarial > 0,
            distilled=active and gate.distils(version) and (pooled or algorithm.distill_steps == 0),
        )
        uploads[client] += 1
        if work not in cache:
            cache[work] = arrival_flops(work, algorithm, forward_flops, input_shape)
        flops[sequence] = cache[work]
    return flops


def parallelism(planned: Schedule, client_flops: float, server: Float64) -> Parallelism:
    """Bounds on the speed-up from more workers.

    A job starts when the server model it needs exists; server step n starts after step n - 1 and after its own job.

    Args:
        planned: the schedule.
        client_flops: work of one client job.
        server: work of each server step [arrivals].
    """
    jobs = len(planned.client)
    if jobs == 0:
        return Parallelism(0.0, 0.0, 0.0)
    free = _longest_chain(planned.base_arrivals, client_flops, np.zeros(jobs))
    charged = _longest_chain(planned.base_arrivals, client_flops, server)
    total = jobs * client_flops
    return Parallelism(total / free, (total + float(server.sum())) / charged, charged)


def _longest_chain(base_arrivals: Int64, client: float, server: Float64) -> float:
    finished = [0.0]
    for base, step in zip(base_arrivals.tolist(), server.tolist(), strict=True):
        finished.append(max(finished[-1], finished[base] + client) + step)
    return finished[-1]

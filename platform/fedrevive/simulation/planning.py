"""What a run will look like, without training: its timeline, its parallelism and its work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedrevive.algorithms.server_algorithm import dispatch_of
from fedrevive.core.beta_rule import Observed, configured_beta_rule
from fedrevive.core.schedules import BetaSchedule
from fedrevive.settings import ExperimentConfig
from fedrevive.simulation.delays import NANOSECONDS
from fedrevive.simulation.server_work import PlannedWork
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
    while timeline.arrivals < most and timeline.next_acceptance_at() <= horizon:
        task = timeline.advance().task
        rows.append((task.client_id, task.base_arrivals, timeline.now))
    columns = np.array(rows, dtype=np.int64).reshape(len(rows), 3)
    return Schedule(columns[:, 0], columns[:, 1], columns[:, 2], config.updates_per_version)


def planned_beta(config: ExperimentConfig, planned: Schedule) -> tuple[Float64, BetaSchedule] | None:
    """beta of each arrival [arrivals] by its staleness, and beta(tau) at the end; None for an algorithm without.

    Gates are left out: this is what the family says, warm-up or not.
    """
    rule = configured_beta_rule(config)
    if rule is None:
        return None
    observed: Observed = ()
    values = np.empty(len(planned.client))
    for sequence, staleness in enumerate(planned.staleness.tolist()):
        values[sequence], observed = rule.evaluate(observed, staleness)
    return values, rule.schedule(observed)


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
    work = PlannedWork(config, forward_flops, input_shape)
    pairs = zip(planned.client.tolist(), planned.staleness.tolist(), strict=True)
    return np.array([work.of(client, staleness) for client, staleness in pairs], np.float64)


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

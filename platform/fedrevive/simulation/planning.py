"""What a run will look like, without training: its timeline, its parallelism and its work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedrevive.algorithms.server_algorithm import dispatch_of
from fedrevive.core.beta_rule import Observed, configured_beta_rule
from fedrevive.core.faults import IN_VALUES, Fault
from fedrevive.core.schedules import BetaSchedule, warmup_versions
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.algorithm import AflDwSettings
from fedrevive.settings.errors import UserError
from fedrevive.settings.experiment import StopSettings
from fedrevive.settings.fedrevive import FedReviveSettings
from fedrevive.settings.peers import DdFedReviveSettings
from fedrevive.simulation.delays import NANOSECONDS
from fedrevive.simulation.server_work import PlannedWork
from fedrevive.simulation.timeline import Arrival, Incident, Timeline

MOST_ARRIVALS = 5_000_000
"""Uploads that a plan plays: minutes, and some hundred MB. Ours."""

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Schedule:
    """The uploads of a run, each column [arrivals]."""

    client: Int64
    base_arrivals: Int64
    """Uploads the server had taken when the job was dispatched."""
    accepted_at: Int64
    """Virtual nanoseconds."""
    version: Int64
    """[arrivals + 1], the server's after so many uploads (no upload is rejected in a plan)."""
    faults: Mapping[str, int] = field(default_factory=dict)
    """How often each simulated fault happens, by kind."""

    @property
    def staleness(self) -> Int64:
        """Server versions between dispatch and acceptance."""
        return self.version[:-1] - self.version[self.base_arrivals]


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
        UserError: that are more than `MOST_ARRIVALS` uploads.
    """
    stop = config.stop
    if stop.arrivals is None and stop.virtual_time is None:
        raise ValueError("stop: a plan needs stop.arrivals or stop.virtual_time")
    most = stop.arrivals if stop.arrivals is not None else 2**62
    if stop.virtual_time is None and most > MOST_ARRIVALS:
        raise _too_long(stop)
    horizon = 2**62 if stop.virtual_time is None else int(stop.virtual_time * NANOSECONDS)
    dispatch = dispatch_of(config.algorithm)
    timeline = Timeline(config, dispatch)
    rows: list[tuple[int, int, int]] = []
    versions = _Versions(config.updates_per_version)
    faults: Counter[Fault] = Counter()
    while timeline.arrivals < most and timeline.next_event_at() <= horizon:
        event = timeline.advance()
        if isinstance(event, Arrival):
            if len(rows) == MOST_ARRIVALS:
                raise _too_long(stop)
            rows.append((event.task.client_id, event.task.base_arrivals, timeline.now))
            versions.arrival()
        if isinstance(event, Incident) or (isinstance(event, Arrival) and event.task.fault in IN_VALUES):
            faults[event.task.fault] += 1
        if event.dispatched and dispatch == "cohort":
            versions.cohort_end()
    columns = np.array(rows, dtype=np.int64).reshape(len(rows), 3)
    counts = {fault.kind: faults[fault] for fault in sorted(faults)}
    return Schedule(columns[:, 0], columns[:, 1], columns[:, 2], np.array(versions.after), counts)


class _Versions:
    """Counts server versions: one per B uploads, and one for what a cohort that lost some of them has left."""

    def __init__(self, updates_per_version: int) -> None:
        self.after = [0]
        """By number of arrivals."""
        self._updates_per_version = updates_per_version
        self._pending = 0

    def arrival(self) -> None:
        self._pending += 1
        self.after.append(self.after[-1])
        if self._pending == self._updates_per_version:
            self.cohort_end()

    def cohort_end(self) -> None:
        self.after[-1] += self._pending > 0
        self._pending = 0


def _too_long(stop: StopSettings) -> UserError:
    name = "arrivals" if stop.virtual_time is None else "virtual_time"
    return UserError(
        f"stop.{name}: {getattr(stop, name)} is more than a plan plays, {MOST_ARRIVALS} arrivals; lower it"
    )


def planned_beta(config: ExperimentConfig, planned: Schedule) -> tuple[Float64, BetaSchedule] | None:
    """beta of each arrival [arrivals], 0 until the warm-up ends, and beta(tau) at the end; None for an algorithm
    without.

    A version of several updates blends only with the last of them: there the others have their beta here, 0 in a run.
    """
    rule = configured_beta_rule(config)
    if rule is None:
        return None
    assert isinstance(config.algorithm, FedReviveSettings | AflDwSettings | DdFedReviveSettings)
    last = warmup_versions(config.algorithm.warmup_versions, concurrency=config.server.concurrency)
    observed: Observed = ()
    values = np.zeros(len(planned.client))
    for sequence, staleness in enumerate(planned.staleness.tolist()):
        beta, observed = rule.evaluate(observed, staleness)
        if planned.version[sequence] > last:
            values[sequence] = beta
    return values, rule.schedule(observed)


def server_flops(
    config: ExperimentConfig, planned: Schedule, forward_flops: int, input_shape: tuple[int, ...]
) -> Float64:
    """Server operations per arrival [arrivals]; 0 for algorithms that only average.

    Args:
        config: the experiment.
        planned: its schedule.
        forward_flops: forward pass of the client model for one sample.
        input_shape: (C, H, W) of one image, or (L,) of one text.
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

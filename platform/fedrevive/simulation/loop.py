"""The one loop: play the timeline, let the executor do the work, yield records in virtual-time order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from fedrevive.algorithms.server_algorithm import Dispatch
from fedrevive.core.messages import ClientTask, ModelSnapshot
from fedrevive.core.target import reaches, window
from fedrevive.settings import ExperimentConfig
from fedrevive.simulation.delays import NANOSECONDS
from fedrevive.simulation.executor import Executor, Pending
from fedrevive.simulation.records import (
    AppliedUpdate,
    ArrivalRecord,
    Evaluation,
    EvaluationRecord,
    FinalRecord,
    Record,
    SnapshotRecord,
)
from fedrevive.simulation.timeline import Timeline

LAST_MOMENT = 2**63 - 1
"""End of virtual time in nanoseconds."""


@dataclass(frozen=True)
class _Step:
    """Work under way whose record is still to be yielded."""

    arrivals: int
    virtual_time: int
    task: ClientTask | None
    outcome: Pending[AppliedUpdate] | Pending[Evaluation]


@dataclass
class _Run:
    """What the loop keeps between two arrivals."""

    horizon: int
    """No upload after this virtual nanosecond is accepted, so its job need not be trained."""
    validation: deque[float]
    """The latest accuracies, as many as the moving average needs."""
    version: int = 0
    under_way: deque[_Step] = field(default_factory=deque)


def simulate(
    config: ExperimentConfig,
    dispatch: Dispatch,
    executor: Executor,
    *,
    snapshot_due: Callable[[int], bool],
    resume_from: SnapshotRecord | None = None,
) -> Iterator[Record]:
    """Run one experiment, from the start or from a snapshot.

    Args:
        config: the experiment.
        dispatch: how freed slots are refilled.
        executor: carries out the work.
        snapshot_due: asked after every arrival, with the arrivals so far; True = yield a `SnapshotRecord` next.
        resume_from: the latest snapshot of an interrupted run.

    Yields:
        Arrivals in order of sequence, evaluations between them, snapshots when asked, one final record.
    """
    timeline = Timeline(config, dispatch)
    run = _Run(horizon=_horizon(config, dispatch), validation=deque(maxlen=window(config)))
    if resume_from is None:
        _submit(timeline.in_flight, executor, run)
        run.under_way.append(_Step(0, 0, None, executor.evaluate()))
    else:
        _resume(timeline, executor, run, resume_from)
    while not _finished(config, timeline, run):
        arrival = timeline.advance()
        step = _Step(timeline.arrivals, timeline.now, arrival.task, executor.apply(arrival.task))
        run.under_way.append(step)
        _submit(arrival.dispatched, executor, run)
        if _evaluation_due(config, timeline, bool(arrival.dispatched), dispatch):
            run.under_way.append(_Step(timeline.arrivals, timeline.now, None, executor.evaluate()))
        wait_for_all = config.stop.target_accuracy is not None
        yield from _settled(run, 0 if wait_for_all else executor.look_ahead)
        if snapshot_due(timeline.arrivals):
            yield from _settled(run, 0)
            yield _snapshot(timeline, executor, run)
    yield from _settled(run, 0)
    if not _evaluation_due(config, timeline, True, dispatch):
        run.under_way.append(_Step(timeline.arrivals, timeline.now, None, executor.evaluate()))
        yield from _settled(run, 0)
    yield FinalRecord(timeline.arrivals, timeline.now, run.version, executor.current_model().model)


def _horizon(config: ExperimentConfig, dispatch: Dispatch) -> int:
    stop = config.stop
    horizon = LAST_MOMENT if stop.virtual_time is None else int(stop.virtual_time * NANOSECONDS)
    if stop.arrivals is not None:
        timeline = Timeline(config, dispatch)
        while timeline.arrivals < stop.arrivals and timeline.next_acceptance_at() <= horizon:
            timeline.advance()
        horizon = min(horizon, timeline.now)
    return horizon


def _submit(tasks: Iterable[ClientTask], executor: Executor, run: _Run) -> None:
    for task in tasks:
        if task.arrives_at <= run.horizon:
            executor.submit(task)


def _finished(config: ExperimentConfig, timeline: Timeline, run: _Run) -> bool:
    stop = config.stop
    if stop.arrivals is not None and timeline.arrivals >= stop.arrivals:
        return True
    if stop.virtual_time is not None and timeline.next_acceptance_at() > stop.virtual_time * NANOSECONDS:
        return True
    return stop.target_accuracy is not None and reaches(
        tuple(run.validation), stop.target_accuracy, window(config)
    )


def _evaluation_due(
    config: ExperimentConfig, timeline: Timeline, cohort_complete: bool, dispatch: Dispatch
) -> bool:
    """Cohort algorithms are measured at every version, the others every so many arrivals."""
    if dispatch == "cohort":
        return cohort_complete and timeline.arrivals % config.server.concurrency == 0
    return timeline.arrivals % config.evaluation.every_arrivals == 0


def _settled(run: _Run, allowed: int) -> Iterator[Record]:
    """Records that are ready, in order; waits until at most `allowed` steps are under way."""
    while run.under_way and (len(run.under_way) > allowed or run.under_way[0].outcome.ready()):
        step = run.under_way.popleft()
        outcome = step.outcome.result()
        if isinstance(outcome, Evaluation):
            run.validation.append(outcome.validation_accuracy)
            yield EvaluationRecord(step.arrivals, step.virtual_time, run.version, outcome)
        else:
            assert step.task is not None
            run.version = outcome.info.new_version
            yield ArrivalRecord(step.arrivals - 1, step.task, step.virtual_time, outcome)


def _snapshot(timeline: Timeline, executor: Executor, run: _Run) -> SnapshotRecord:
    server, bases = executor.capture()
    return SnapshotRecord(
        arrivals=timeline.arrivals,
        virtual_time=timeline.now,
        version=run.version,
        server=server,
        base_models={arrivals: snapshot.model for arrivals, snapshot in bases.items()},
        base_versions={arrivals: snapshot.version for arrivals, snapshot in bases.items()},
        base_local_steps={
            arrivals: dict(snapshot.local_steps)
            for arrivals, snapshot in bases.items()
            if snapshot.local_steps
        },
        recent_validation=tuple(run.validation),
    )


def _resume(timeline: Timeline, executor: Executor, run: _Run, snapshot: SnapshotRecord) -> None:
    while timeline.arrivals < snapshot.arrivals:
        timeline.advance()
    bases = {
        arrivals: ModelSnapshot(
            snapshot.base_versions[arrivals], model, snapshot.base_local_steps.get(arrivals, {})
        )
        for arrivals, model in snapshot.base_models.items()
    }
    tasks = [task for task in timeline.in_flight if task.arrives_at <= run.horizon]
    executor.restore(snapshot.server, snapshot.arrivals, bases, tasks)
    run.version = snapshot.version
    run.validation.extend(snapshot.recent_validation)

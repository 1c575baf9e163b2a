"""The one loop: play the timeline, let the executor do the work, yield records in virtual-time order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from fedrevive.algorithms.server_algorithm import Dispatch
from fedrevive.core.faults import IN_VALUES, LOST
from fedrevive.core.messages import ClientTask, ModelSnapshot, Timing
from fedrevive.core.target import reaches, window
from fedrevive.settings import ExperimentConfig
from fedrevive.simulation.delays import NANOSECONDS
from fedrevive.simulation.executor import Executor, Pending, Ready
from fedrevive.simulation.faults import described
from fedrevive.simulation.records import (
    AppliedUpdate,
    ArrivalRecord,
    CohortEnd,
    Evaluation,
    EvaluationRecord,
    EventRecord,
    FinalRecord,
    Record,
    RejectedUpdate,
    SnapshotRecord,
)
from fedrevive.simulation.timeline import Arrival, Incident, Opening, Timeline

LAST_MOMENT = 2**63 - 1
"""End of virtual time in nanoseconds."""


@dataclass(frozen=True)
class _Step:
    """Work under way whose records are still to be yielded."""

    arrivals: int
    virtual_time: int
    task: ClientTask | None
    outcome: (
        Pending[AppliedUpdate | RejectedUpdate] | Pending[CohortEnd] | Pending[Evaluation] | Pending[Incident]
    )


@dataclass
class _Run:
    """What the loop keeps between two arrivals."""

    config: ExperimentConfig
    horizon: int
    """No upload after this virtual nanosecond is taken, so its job need not be trained."""
    validation: deque[float]
    """The latest accuracies, as many as the moving average needs."""
    version: int = 0
    rejected: int = 0
    events: int = 0
    evaluated: int | None = None
    """Arrivals before the latest evaluation."""
    evaluating: int = 0
    """Evaluations under way."""
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
        Arrivals in order of sequence, events and evaluations between them, snapshots when asked, one final record.

    Raises:
        UserError: stopped by policy (exit code 6): the model diverged, or nobody can finish.
    """
    timeline = Timeline(config, dispatch)
    run = _Run(config, _horizon(config, dispatch), deque(maxlen=window(config)))
    if resume_from is None:
        _submit(timeline.in_flight, executor, run)
        _evaluate(timeline, executor, run)
    else:
        _resume(timeline, dispatch, executor, run, resume_from)
    while not _finished(config, timeline, run):
        event = timeline.advance()
        if not isinstance(event, Opening):
            _carry_out(event, timeline, executor, run)
        if event.dispatched and dispatch == "cohort":
            run.under_way.append(_Step(timeline.arrivals, timeline.now, None, executor.end_cohort()))
        _submit(event.dispatched, executor, run)
        if _evaluation_due(config, timeline, dispatch):
            _evaluate(timeline, executor, run)
        decisive = config.stop.target_accuracy is not None and run.evaluating
        yield from _settled(run, 0 if decisive else executor.look_ahead)
        if isinstance(event, Arrival) and snapshot_due(timeline.arrivals):
            yield from _settled(run, 0)
            yield _snapshot(timeline, executor, run)
    _evaluate(timeline, executor, run)
    yield from _settled(run, 0)
    model = executor.current_model().model
    yield FinalRecord(timeline.arrivals, run.rejected, timeline.now, run.version, model)


def _horizon(config: ExperimentConfig, dispatch: Dispatch) -> int:
    stop = config.stop
    horizon = LAST_MOMENT if stop.virtual_time is None else int(stop.virtual_time * NANOSECONDS)
    if stop.arrivals is not None:
        timeline = Timeline(config, dispatch)
        while timeline.arrivals < stop.arrivals and timeline.next_event_at() <= horizon:
            timeline.advance()
        horizon = min(horizon, timeline.now)
    return horizon


def _submit(tasks: Iterable[ClientTask], executor: Executor, run: _Run) -> None:
    for task in tasks:
        if _needed(task, run):
            executor.submit(task)


def _needed(task: ClientTask, run: _Run) -> bool:
    return task.arrives_at <= run.horizon and task.fault not in LOST


def _carry_out(event: Arrival | Incident, timeline: Timeline, executor: Executor, run: _Run) -> None:
    outcome = executor.apply(event.task) if isinstance(event, Arrival) else Ready(event)
    run.under_way.append(_Step(timeline.arrivals, timeline.now, event.task, outcome))


def _finished(config: ExperimentConfig, timeline: Timeline, run: _Run) -> bool:
    stop = config.stop
    if stop.arrivals is not None and timeline.arrivals >= stop.arrivals:
        return True
    if stop.virtual_time is not None and timeline.next_event_at() > stop.virtual_time * NANOSECONDS:
        return True
    return stop.target_accuracy is not None and reaches(
        tuple(run.validation), stop.target_accuracy, window(config)
    )


def _evaluation_due(config: ExperimentConfig, timeline: Timeline, dispatch: Dispatch) -> bool:
    """Cohort algorithms are measured at the end of every cohort, the others every so many arrivals."""
    if dispatch == "cohort":
        return timeline.cohort_complete
    return timeline.arrivals % config.evaluation.every_arrivals == 0


def _evaluate(timeline: Timeline, executor: Executor, run: _Run) -> None:
    """Once per number of arrivals: between two of them the model stays the same."""
    if run.evaluated != timeline.arrivals:
        run.evaluated = timeline.arrivals
        run.evaluating += 1
        run.under_way.append(_Step(timeline.arrivals, timeline.now, None, executor.evaluate()))


def _settled(run: _Run, allowed: int) -> Iterator[Record]:
    """Records that are ready, in order; waits until at most `allowed` steps are under way."""
    while run.under_way and (len(run.under_way) > allowed or run.under_way[0].outcome.ready()):
        step = run.under_way.popleft()
        outcome = step.outcome.result()
        match outcome:
            case Evaluation():
                run.evaluating -= 1
                run.validation.append(outcome.validation_accuracy)
                yield EvaluationRecord(step.arrivals, step.virtual_time, run.version, outcome)
            case CohortEnd():
                run.version = outcome.version
            case Incident():
                yield _event(
                    run, step, outcome.task.fault.kind, described(outcome.task.fault, run.config.faults)
                )
            case _:
                yield from _taken(run, step, outcome)


def _taken(run: _Run, step: _Step, outcome: AppliedUpdate | RejectedUpdate) -> Iterator[Record]:
    """What happened to an upload: its arrival, unless it was rejected, and everything out of the ordinary."""
    assert step.task is not None
    if step.task.fault in IN_VALUES:
        yield _event(run, step, step.task.fault.kind, described(step.task.fault, run.config.faults))
    if isinstance(outcome, RejectedUpdate):
        run.rejected += 1
        yield _event(run, step, "rejected", outcome.reason, outcome.timings)
        return
    run.version = outcome.info.new_version
    yield ArrivalRecord(step.arrivals - run.rejected - 1, step.task, step.virtual_time, outcome)
    if outcome.info.discarded is not None:
        yield _event(run, step, "distillation", outcome.info.discarded)


def _event(run: _Run, step: _Step, kind: str, reason: str, timings: tuple[Timing, ...] = ()) -> EventRecord:
    assert step.task is not None
    run.events += 1
    return EventRecord(run.events - 1, step.virtual_time, kind, step.task, reason, timings)


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
        events=run.events,
    )


def _resume(
    timeline: Timeline, dispatch: Dispatch, executor: Executor, run: _Run, snapshot: SnapshotRecord
) -> None:
    while timeline.arrivals < snapshot.arrivals:
        timeline.advance()
    bases = {
        arrivals: ModelSnapshot(
            snapshot.base_versions[arrivals], model, snapshot.base_local_steps.get(arrivals, {})
        )
        for arrivals, model in snapshot.base_models.items()
    }
    tasks = [task for task in timeline.in_flight if _needed(task, run)]
    executor.restore(snapshot.server, snapshot.arrivals, bases, tasks)
    run.version, run.rejected, run.events = snapshot.version, snapshot.server.gate.rejected, snapshot.events
    if _evaluation_due(run.config, timeline, dispatch):
        run.evaluated = snapshot.arrivals
    run.validation.extend(snapshot.recent_validation)

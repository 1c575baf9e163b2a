"""When the loop stops, what it evaluates, and that a resumed run stops where the whole one does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from fedrevive.assemble import client_trainer, new_model, server
from fedrevive.core.messages import ClientTask, ModelSnapshot, StepInfo, Timing
from fedrevive.experiment import run_experiment
from fedrevive.results.store import RunStore
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.loading import load
from fedrevive.simulation.executor import InlineExecutor, Ready
from fedrevive.simulation.loop import simulate
from fedrevive.simulation.records import (
    AppliedUpdate,
    ArrivalRecord,
    Evaluation,
    EvaluationRecord,
    FinalRecord,
    Record,
    ServerCapture,
    SnapshotRecord,
)
from fedrevive.tasks import load_task

SMALL = ["task.clients=8", "server.concurrency=4", "model.width=4", "client.local_steps=1"]
Curve = Callable[[int], float]
T = TypeVar("T")


@dataclass(frozen=True)
class Late(Ready[T]):
    """A value that is never there before it is waited for."""

    def ready(self) -> bool:
        return False


class Scripted:
    """An executor that trains nothing: the validation accuracy after n arrivals is `curve(n)`."""

    def __init__(self, curve: Curve, look_ahead: int = 0) -> None:
        self.look_ahead = look_ahead
        self._model = new_model(targeted(), "cpu").vector.numpy()
        self._curve = curve
        self._arrivals = 0
        self._held: set[int] = set()

    def submit(self, task: ClientTask) -> None:
        assert task.base_arrivals == self._arrivals
        self._held.add(self._arrivals)

    def apply(self, task: ClientTask) -> Late[AppliedUpdate]:
        version = self._arrivals
        self._arrivals += 1
        info = StepInfo(task.base_arrivals, version, version + 1, version - task.base_arrivals, 1.0)
        return Late(AppliedUpdate(info, train_loss=1.0, samples=1, timings=()))

    def evaluate(self) -> Late[Evaluation]:
        timing = Timing("evaluate", None, "pid", "host", 0.0, 0.0, 0.0)
        return Late(Evaluation(1.0, 0.0, self._curve(self._arrivals), 0.0, timing))

    def capture(self) -> tuple[ServerCapture, dict[int, ModelSnapshot]]:
        bases = {arrivals: ModelSnapshot(arrivals, self._model) for arrivals in self._held}
        return ServerCapture({"arrivals": self._arrivals}, {}), bases

    def restore(self, server: ServerCapture, arrivals: int, bases: object, tasks: object) -> None:
        assert server.structure == {"arrivals": arrivals}
        self._arrivals = arrivals

    def current_model(self) -> ModelSnapshot:
        return ModelSnapshot(self._arrivals, self._model)


def rising(arrivals: int) -> float:
    """0.025 more at every evaluation (every 2 arrivals)."""
    return arrivals / 80


def early_peak(arrivals: int) -> float:
    """Two lucky evaluations at the start, then a slow rise: a short window would stop too soon."""
    return 1.0 if arrivals in (2, 4) else arrivals / 80


def targeted() -> ExperimentConfig:
    return load("digits", [*SMALL, "algorithm.name=fedbuff", "stop.target_accuracy=0.5", "stop.arrivals=400",
                           "evaluation.every_arrivals=2"])  # fmt: skip


def slow_stop(curve: Curve, target: float, every: int, most: int) -> int:
    """Arrivals at which the mean of the last ten evaluations first reaches the target."""
    measured = [curve(arrivals) for arrivals in range(0, most + 1, every)]
    for last in range(9, len(measured)):
        if sum(measured[last - 9 : last + 1]) / 10 >= target:
            return last * every
    return most


@pytest.mark.parametrize("look_ahead", [0, 3])
@pytest.mark.parametrize(
    ("curve", "expected"), [(rising, 50), (early_peak, 50), (lambda _: 0.9, 18), (lambda _: 0.1, 400)]
)
def test_a_run_stops_where_the_mean_of_ten_evaluations_reaches_the_target(
    curve: Curve, expected: int, look_ahead: int
) -> None:
    config = targeted()
    executor = Scripted(curve, look_ahead)
    *records, final = simulate(config, "continuous", executor, snapshot_due=lambda _: False)
    assert expected == slow_stop(curve, 0.5, 2, 400)
    assert isinstance(final, FinalRecord)
    assert final.arrivals == final.version == expected
    assert [r.sequence for r in records if isinstance(r, ArrivalRecord)] == list(range(expected))
    evaluated = [r.arrivals for r in records if isinstance(r, EvaluationRecord)]
    assert evaluated == list(range(0, expected + 1, 2))


@pytest.mark.parametrize("curve", [rising, early_peak])
def test_a_resumed_run_keeps_the_moving_average(curve: Curve) -> None:
    config = targeted()
    whole = list(simulate(config, "continuous", Scripted(curve), snapshot_due=lambda n: n % 7 == 0))
    snapshots = [record for record in whole if isinstance(record, SnapshotRecord)]
    assert len(snapshots) == 7
    for snapshot in snapshots:
        assert len(snapshot.recent_validation) == min(10, snapshot.arrivals // 2 + 1)
        rest = list(
            simulate(
                config, "continuous", Scripted(curve), snapshot_due=lambda _: False, resume_from=snapshot
            )
        )
        assert rest[-1].arrivals == whole[-1].arrivals == 50
        expected = [r for r in whole if isinstance(r, EvaluationRecord) and r.arrivals > snapshot.arrivals]
        assert [r for r in rest if isinstance(r, EvaluationRecord)] == expected


@pytest.mark.parametrize("pause", [7, 20, 31, 49])
def test_the_moving_average_survives_the_folder(pause: int, tmp_path: Path) -> None:
    config = targeted()
    manifest = {"run_id": "test", "config": config.model_dump(mode="json")}
    with RunStore.open(tmp_path / "run", manifest=manifest) as store:
        asked = iter(range(1, 1000))
        for _ in run_experiment(config, store, Scripted(rising), interrupted=lambda: next(asked) >= pause):
            pass
        assert not store.finished
        before = store.latest().arrivals
        assert before >= 4  # three evaluations or more
    with RunStore.open(tmp_path / "run", manifest=manifest) as store:
        for _ in run_experiment(config, store, Scripted(rising)):
            pass
        assert store.finished
        assert store.manifest["summary"]["arrivals"] == 50


def real_run(*overrides: str) -> list[Record]:
    config = load("digits", [*SMALL, *overrides])
    data = load_task(config.task, config.seed)
    executor = InlineExecutor(server(config, data), client_trainer(config, data))
    dispatch = "cohort" if config.algorithm.name == "fedavg" else "continuous"
    return list(simulate(config, dispatch, executor, snapshot_due=lambda _: False))


def test_fedavg_is_evaluated_once_per_version() -> None:
    records = real_run("algorithm.name=fedavg", "stop.arrivals=20", "evaluation.every_arrivals=3")
    evaluated = [(r.arrivals, r.version) for r in records if isinstance(r, EvaluationRecord)]
    assert evaluated == [(0, 0), (4, 1), (8, 2), (12, 3), (16, 4), (20, 5)]
    after = [r.applied.info.new_version for r in records if isinstance(r, ArrivalRecord)]
    assert after == [n // 4 for n in range(1, 21)]


def test_the_others_are_evaluated_every_so_many_arrivals_and_at_the_end() -> None:
    records = real_run("algorithm.name=fedbuff", "stop.arrivals=10", "evaluation.every_arrivals=4",
                       "server.updates_per_version=3")  # fmt: skip
    evaluated = [(r.arrivals, r.version) for r in records if isinstance(r, EvaluationRecord)]
    assert evaluated == [(0, 0), (4, 1), (8, 2), (10, 3)]
    order = [r.arrivals if isinstance(r, EvaluationRecord) else r.sequence + 0.5 for r in records[:-1]]
    assert order == sorted(order)  # each between the arrivals it lies between


def test_the_last_model_is_not_evaluated_twice() -> None:
    records = real_run("algorithm.name=fedbuff", "stop.arrivals=8", "evaluation.every_arrivals=4")
    assert [r.arrivals for r in records if isinstance(r, EvaluationRecord)] == [0, 4, 8]

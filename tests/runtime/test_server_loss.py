"""A run whose executor loses its server starts again from its latest snapshot; no record comes twice."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fedrevive.assemble import client_trainer, server
from fedrevive.core.process import configure_process
from fedrevive.experiment import SERVER_LOSSES, run_experiment
from fedrevive.followed_run import inline_executor
from fedrevive.results.store import RunStore
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import ExitCode, UserError
from fedrevive.settings.loading import load
from fedrevive.simulation.executor import Executor, InlineExecutor, ServerLostError
from fedrevive.simulation.records import ArrivalRecord, EvaluationRecord, EventRecord, Record, SnapshotRecord
from fedrevive.tasks import load_task
from fedrevive.tasks.federated import FederatedData

WORDS = ["task.clients=12", "task.samples_per_client=20", "server.concurrency=4", "client.local_steps=2",
         "client.batch_size=8", "stop.arrivals=30", "evaluation.every_arrivals=7", "algorithm.name=fedrevive",
         "algorithm.warmup_versions=6", "algorithm.generate_every_versions=4", "faults.nan.jobs=0.1"]  # fmt: skip


class Mortal(InlineExecutor):
    """Loses its server in a given call, when as many uploads were taken as `dies` says next."""

    def __init__(self, config: ExperimentConfig, data: FederatedData, call: str, dies: Iterator[int]) -> None:
        super().__init__(server(config, data), client_trainer(config, data))
        self._made_of = (config, data, call, dies)
        self._next = next(dies, None)
        working = getattr(self, call)
        setattr(self, call, lambda *arguments: self._alive() or working(*arguments))

    def _alive(self) -> None:
        if self._arrivals == self._next:
            raise ServerLostError("it died", partial(Mortal, *self._made_of))


@pytest.fixture(scope="module")
def task() -> FederatedData:
    configure_process()
    config = load("digits", WORDS)
    return load_task(config.task, config.seed)


@pytest.fixture(scope="module")
def expected(task: FederatedData, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    config = load("digits", WORDS)
    found, _ = carried_out(config, inline_executor(config, task), tmp_path_factory.mktemp("whole"))
    return found


def carried_out(
    config: ExperimentConfig, executor: Executor, folder: Path, on_record: Callable[[Record], Any] = id
) -> tuple[dict[str, str], list[Record]]:
    manifest = {"run_id": "test", "config": config.model_dump(mode="json")}
    records = []
    with RunStore.open(folder, manifest=manifest) as store:
        for record in run_experiment(config, store, executor):
            records.append(record)
            on_record(record)
        return store.manifest["hashes"], records


@pytest.mark.parametrize(
    ("call", "every", "dies"),
    [
        ("apply", "null", [3, 3, 20]),
        ("apply", "8", [3, 12, 13, 29]),
        ("submit", "8", [3, 20]),
        ("evaluate", "8", [7, 28]),
        ("capture", "8", [8, 24]),
        ("current_model", "8", [30, 30]),
    ],
)
def test_lost_servers_change_nothing(call, every, dies, task, expected, tmp_path):
    config = load("digits", [*WORDS, f"snapshots.every_arrivals={every}"])
    left = iter(dies)
    found, records = carried_out(config, Mortal(config, task, call, left), tmp_path / "run")
    assert list(left) == []  # it did lose its server
    assert found == expected
    for kind, number in (
        (ArrivalRecord, "sequence"),
        (EventRecord, "sequence"),
        (EvaluationRecord, "arrivals"),
    ):
        numbers = [getattr(record, number) for record in records if isinstance(record, kind)]
        assert numbers == sorted(set(numbers))
        assert numbers


def test_without_progress_a_run_gives_up_and_can_be_resumed(task, expected, tmp_path):
    config = load("digits", [*WORDS, "snapshots.every_arrivals=5", "snapshots.every_seconds=1000000"])
    reached = []
    with pytest.raises(UserError, match="lost 3 times without any progress") as raised:
        carried_out(
            config, Mortal(config, task, "apply", iter([12] * SERVER_LOSSES)), tmp_path, reached.append
        )
    assert raised.value.exit_code == ExitCode.ENVIRONMENT
    assert max(record.arrivals for record in reached if isinstance(record, SnapshotRecord)) == 10
    dies_on_the_way_back = Mortal(config, task, "restore", iter([0, 0]))
    assert carried_out(config, dies_on_the_way_back, tmp_path)[0] == expected


def test_an_executor_that_lost_its_server_is_freed_before_the_next_one_is_made(task, tmp_path, monkeypatch):
    config = load("digits", WORDS)
    made: list[weakref.ref[Executor]] = []
    before: list[int] = []

    def noted(executor: Mortal, *arguments: Any) -> None:
        gc.collect()
        before.append(sum(executor() is not None for executor in made))
        made.append(weakref.ref(executor))
        original(executor, *arguments)

    original = Mortal.__init__
    monkeypatch.setattr(Mortal, "__init__", noted)
    manifest = {"run_id": "test", "config": config.model_dump(mode="json")}
    with RunStore.open(tmp_path, manifest=manifest) as store:
        for _ in run_experiment(config, store, Mortal(config, task, "apply", iter([5, 20]))):
            pass
    assert before == [0, 0, 0]


def test_losses_with_progress_between_them_are_not_counted(task, expected, tmp_path):
    config = load("digits", WORDS)
    dies = [5, 5, 6, 6, 9, 9, 20, 20, 29, 29]
    assert carried_out(config, Mortal(config, task, "apply", iter(dies)), tmp_path)[0] == expected

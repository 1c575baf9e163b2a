"""What becomes of jobs whose worker dies, in orders of events that real processes cannot be made to follow.

The worker processes and Ray's object store are stood in for: a call ends when the test says so. The same with real
processes: tests/contract/test_lost_processes.py.
"""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

import fedrevive.runtime  # noqa: F401  # before Ray

# isort: split
from ray.exceptions import ActorDiedError, RayError

from fedrevive.core.messages import ClientTask
from fedrevive.runtime import client_pool
from fedrevive.runtime.client_pool import ATTEMPTS, ClientPool
from fedrevive.runtime.stored import Batch, Stored
from fedrevive.settings.errors import ExitCode, UserError


class Remote:
    """A method of an actor: its calls are known by new references."""

    def __init__(self, made: list[tuple[Any, tuple[Any, ...]]]) -> None:
        self._made, self._returns = made, 1

    def options(self, num_returns: int) -> Remote:
        self._returns = num_returns
        return self

    def remote(self, *arguments: Any) -> Any:
        references = [object() for _ in range(self._returns)]
        self._made.append((references[-1], arguments))
        return references if self._returns > 1 else references[0]


class Worker:
    """Keeps the calls that were made, as (reference to wait for, arguments)."""

    def __init__(self) -> None:
        self.setups: list[tuple[Any, tuple[Any, ...]]] = []
        self.trainings: list[tuple[Any, tuple[Any, ...]]] = []
        self.setup = Remote(self.setups)

    @property
    def train(self) -> Remote:
        return Remote(self.trainings)


class World:
    """A pool with two workers, and what their calls came to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._results: dict[Any, Any] = {}
        self._pids = count(100)
        self.clients = [Worker(), Worker()]
        self.client_pids: dict[int, int] = {}
        monkeypatch.setattr(client_pool, "ray", SimpleNamespace(get=self._get))
        self.pool = ClientPool(self, None, None, most=4)  # type: ignore[arg-type]
        self.get_ready(0)
        self.get_ready(1)

    def replace_client(self, index: int) -> None:
        self.clients[index] = Worker()

    def get_ready(self, worker: int) -> None:
        self.ends(self.clients[worker].setups[0][0], next(self._pids))

    def ends(self, reference: Any, result: Any) -> None:
        """A call has a result, or the error that its worker is dead; the pool hands out work afterwards."""
        self._results[reference] = result
        self.pool.collect([reference])
        self.pool.hand_out(0)

    def asked(self, worker: int) -> list[tuple[Any, list[int]]]:
        """Calls of a worker, as (reference, jobs)."""
        return [(call, [task.job for task in tasks]) for call, (tasks, *_) in self.clients[worker].trainings]

    def train(self, *jobs: int) -> None:
        for job in jobs:
            self.pool.train(ClientTask(0, job, job, 0, 0, 1000 + job), Stored(Batch("base"), 0))
        self.pool.hand_out(0)

    def call_of(self, job: int) -> tuple[int, Any]:
        """The worker that has a job, and its call."""
        ((worker, call),) = (
            (worker, call) for worker in (0, 1) for call, jobs in self.asked(worker) if jobs == [job]
        )
        return worker, call

    def loses(self, job: int) -> None:
        """The worker that has a job dies and is replaced."""
        worker, call = self.call_of(job)
        self.ends(call, ActorDiedError())
        self.get_ready(worker)

    def _get(self, reference: Any) -> Any:
        if isinstance(self._results[reference], RayError):
            raise self._results[reference]
        return self._results[reference]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_everything_a_lost_worker_was_asked_to_do_is_done_by_another(world):
    world.train(0, 1, 2, 3)
    assert [jobs for _, jobs in world.asked(0)] == [[0], [2]]  # one call runs, one waits
    world.ends(world.call_of(0)[1], ActorDiedError())
    for call, _ in [*world.asked(1)]:
        world.ends(call, 0.1)
    assert [jobs for _, jobs in world.asked(1)] == [[1], [3], [0], [2]]
    for call, _ in world.asked(1)[2:]:
        world.ends(call, 0.1)
    assert sorted(world.pool.updates) == [0, 1, 2, 3]


def test_results_of_a_replaced_worker_are_never_looked_at(world):
    world.train(0, 1, 2, 3)
    running, queued = (call for call, _ in world.asked(0))
    world.ends(running, ActorDiedError())
    assert not {running, queued} & set(world.pool.under_way)
    world.ends(queued, 0.1)  # it was frozen rather than dead, and answers after all
    world.ends(running, 0.1)
    assert world.pool.updates == {}
    world.get_ready(0)
    again, jobs = world.asked(0)[0]
    world.ends(again, 0.1)
    assert jobs == [0]
    assert list(world.pool.updates) == [0]


def test_a_job_whose_workers_die_while_nothing_else_is_done_ends_the_run(world):
    world.train(0)
    for _ in range(ATTEMPTS - 1):
        world.loses(0)
    with pytest.raises(UserError, match=f"lost its worker {ATTEMPTS} times") as raised:
        world.loses(0)
    assert raised.value.exit_code == ExitCode.ENVIRONMENT


@pytest.mark.parametrize("progress", ["another job", "server step"])
def test_losses_with_progress_between_them_are_not_counted(progress, world):
    """As when workers are killed at random, and a job takes long: it may meet any number of kills."""
    world.train(0)
    for job in range(1, 3 * ATTEMPTS):
        if progress == "another job":
            world.train(job)
            world.ends(world.call_of(job)[1], 0.1)
        else:
            world.pool.moved_on()
        world.loses(0)
    world.ends(world.call_of(0)[1], 0.1)
    assert 0 in world.pool.updates

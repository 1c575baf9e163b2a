"""The client actors of a lane, kept busy with jobs and evaluations: what is due first in virtual time goes first.

Work starts as soon as the server model it needs exists. A job is a pure function: when its worker dies, another one
gets the same job. Results belong to the call that was made, so those of a worker that was replaced are never looked at.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from fedrevive.core.messages import ClientTask
from fedrevive.runtime.lane import Lane
from fedrevive.runtime.stored import CALL_SECONDS, Arguments, Batch, Stored
from fedrevive.runtime.waiting import cause_of
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import ExitCode, UserError
from fedrevive.simulation.records import Evaluation
from fedrevive.tasks.federated import FederatedData

QUEUED_CALLS = 2
"""Calls per worker, one running and one waiting, so that a worker never idles for the driver."""
ATTEMPTS = 3
"""How often a job may lose its worker while the run does not move on, or a worker its actor before it is ready, before
the run gives up. A job that ends every worker is soon the only one left, and then nothing moves on."""


@dataclass(order=True)
class _Work:
    """A job, or an evaluation (task None), in order of virtual time."""

    key: tuple[int, int, int]
    task: ClientTask | None = field(compare=False)
    arrivals: int = field(compare=False)
    """Uploads before the server model it needs: names an evaluation."""
    model: Stored = field(compare=False)
    attempts: int = field(default=0, compare=False)
    """Workers it has lost since the run last moved on."""
    lost_at: int = field(default=-1, compare=False)
    """Progress of the run when it lost the latest one."""

    def lost_worker(self, progress: int) -> bool:
        """Count one more loss; False when that was the last it may suffer."""
        self.attempts = self.attempts + 1 if progress == self.lost_at else 1
        self.lost_at = progress
        return self.attempts < ATTEMPTS


@dataclass(frozen=True)
class _Call:
    """What a worker was asked to do; no work = to get ready."""

    worker: int
    work: list[_Work]
    updates: Batch


class ClientPool:
    """See the module docstring.

    Args:
        lane: its client actors do the work.
        config: the experiment.
        data: reference to the federated data.
        most: jobs per call, at most.
    """

    def __init__(
        self, lane: Lane, config: ExperimentConfig, data: ray.ObjectRef[FederatedData], most: int
    ) -> None:
        self._lane, self._config, self._data, self._most = lane, config, data, most
        self.updates: dict[int, Stored] = {}
        """Job -> its upload, of those that were trained."""
        self.evaluations: dict[int, Evaluation] = {}
        """By arrivals."""
        self._waiting: list[_Work] = []
        self._calls: dict[Any, _Call] = {}
        self._load = [QUEUED_CALLS] * len(lane.clients)
        self._deaths = [0] * len(lane.clients)
        self._job_seconds = CALL_SECONDS
        self._progress = 0
        for worker in range(len(lane.clients)):
            self._get_ready(worker)

    def train(self, task: ClientTask, base: Stored) -> None:
        """Take a job; `base` = the model it starts from."""
        self._add(_Work((task.arrives_at, 1, task.job), task, task.base_arrivals, base))

    def evaluate(self, arrivals: int, model: Stored) -> None:
        """Take an evaluation of the model after so many arrivals."""
        self._add(_Work((0, 0, arrivals), None, arrivals, model))

    def moved_on(self) -> None:
        """The run has got further, so that what is lost from now on is counted anew."""
        self._progress += 1

    @property
    def under_way(self) -> list[Any]:
        """References to wait for; `collect` wants those that are done."""
        return list(self._calls)

    def hand_out(self, settled: int) -> None:
        """Ask workers to do what needs no model of a server step after number `settled`."""
        held_back: list[_Work] = []
        for load in range(QUEUED_CALLS):
            for worker in range(len(self._load)):
                if self._load[worker] == load:
                    self._call(worker, self._next_work(settled, held_back, idle=load == 0))
        for work in held_back:
            self._add(work)

    def collect(self, done: Iterable[Any]) -> None:
        """Take results, and replace workers that died.

        Raises:
            UserError: a job or a worker died too often (exit code 5), or what a worker raised.
            LostError: a model is gone.
        """
        for sentinel in done:
            if sentinel not in self._calls:  # a call of a worker that died, or none of ours
                continue
            try:
                result = ray.get(sentinel)
            except RayTaskError as error:
                raise cause_of(error) from None
            except RayError as error:
                self._replace(self._calls[sentinel].worker, type(error).__name__)
            else:
                self._take(self._calls.pop(sentinel), result)

    def _add(self, work: _Work) -> None:
        heapq.heappush(self._waiting, work)

    def _next_work(self, settled: int, held_back: list[_Work], *, idle: bool) -> list[_Work]:
        """The most urgent work whose server model exists: one evaluation, or jobs for about CALL_SECONDS.

        A worker that still has something to do is not given less than its share: small calls cost as much as others.
        """
        untrained = len(self._waiting) + len(held_back) + sum(len(call.work) for call in self._calls.values())
        share = math.ceil(untrained / (QUEUED_CALLS * len(self._load)))
        most = max(1, min(self._most, share, round(CALL_SECONDS / self._job_seconds)))
        batch: list[_Work] = []
        while self._waiting and len(batch) < most:
            work = heapq.heappop(self._waiting)
            if work.model.step > settled:
                held_back.append(work)
            elif work.task is None and batch:
                self._add(work)
                break
            else:
                batch.append(work)
                if work.task is None:
                    return batch
        if not idle and len(batch) < most:
            held_back += batch
            return []
        return batch

    def _call(self, worker: int, work: list[_Work]) -> None:
        if not work:
            return
        client = self._lane.clients[worker]
        tasks = [item.task for item in work if item.task is not None]
        arguments, updates = Arguments(), Batch()
        places = [arguments.place(item.model) for item in work]
        if tasks:
            call = client.train.options(num_returns=2)
            updates.reference, sentinel = call.remote(tasks, places, *arguments.references)
        else:
            sentinel = client.evaluate.remote(places[0], *arguments.references)
        self._calls[sentinel] = _Call(worker, work, updates)
        self._load[worker] += 1

    def _take(self, call: _Call, result: Any) -> None:
        self._deaths[call.worker] = 0
        if not call.work:
            self._lane.client_pids[call.worker] = result
            self._load[call.worker] = 0
            return
        self._load[call.worker] -= 1
        self.moved_on()
        if isinstance(result, Evaluation):
            self.evaluations[call.work[0].arrivals] = result
            return
        self._job_seconds = 0.5 * self._job_seconds + 0.5 * max(1e-4, result / len(call.work))
        for row, item in enumerate(call.work):
            assert item.task is not None
            self.updates[item.task.job] = Stored(call.updates, row)

    def _replace(self, worker: int, cause: str) -> None:
        """A worker is gone: give back everything it was asked to do, and start another."""
        lost = [sentinel for sentinel, call in self._calls.items() if call.worker == worker]
        self._deaths[worker] += 1
        if self._deaths[worker] == ATTEMPTS:
            raise _gives_up(f"a client actor died {ATTEMPTS} times before it did anything", cause)
        for position, sentinel in enumerate(lost):
            for item in self._calls.pop(sentinel).work:
                # Later calls were only queued: nothing speaks against their jobs.
                if position == 0 and not item.lost_worker(self._progress):
                    job = f"a job of client {item.task.client_id}" if item.task else "an evaluation"
                    raise _gives_up(f"{job} lost its worker {ATTEMPTS} times", cause)
                self._add(item)
        self._lane.replace_client(worker)
        self._get_ready(worker)

    def _get_ready(self, worker: int) -> None:
        """Until it is, a worker counts as busy."""
        ready = self._lane.clients[worker].setup.remote(self._config, self._data)
        self._calls[ready] = _Call(worker, [], Batch())
        self._load[worker] = QUEUED_CALLS


def _gives_up(what: str, cause: str) -> UserError:
    return UserError(
        f"compute: {what} ({cause}); is there enough memory? the run can be resumed",
        exit_code=ExitCode.ENVIRONMENT,
    )

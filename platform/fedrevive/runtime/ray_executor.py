"""Client jobs on a pool of actors, server steps on the server actor; the driver moves references only.

Tasks in flight are trained ahead of their due time, the earliest virtual arrival first, as soon as the server model
they start from exists. A server step is submitted when its upload is there, strictly in the order of the timeline, so
results do not depend on which worker finished when. A job is a pure function: if its worker dies, a new worker gets
the same job, and as an upload reaches the server only after it arrived here whole, it is applied exactly once.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from fedrevive.assemble import server_data
from fedrevive.core.messages import ClientTask, ModelSnapshot
from fedrevive.runtime.session import Lane
from fedrevive.runtime.waiting import cause_of, done_of, fetched
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import ExitCode, UserError
from fedrevive.simulation.executor import BaseModels, Pending
from fedrevive.simulation.records import AppliedUpdate, Evaluation, ServerCapture
from fedrevive.tasks.federated import FederatedData

T = TypeVar("T")

CALL_SECONDS = 0.075
"""Work per actor call: long enough to hide a call's cost (about 1 ms), short enough to keep the order of arrivals."""
MOST_JOBS_PER_CALL = 16
QUEUED_CALLS = 2
"""Calls per worker, one running and one waiting, so that a worker never idles for the driver."""
ATTEMPTS = 3
"""How often a job may lose its worker before the run gives up: it probably kills it."""


@dataclass(order=True)
class _Work:
    """A job, or an evaluation (task None), in order of virtual time."""

    key: tuple[int, int, int]
    task: ClientTask | None = field(compare=False)
    arrivals: int = field(compare=False)
    """The server model it needs: the one after so many arrivals."""
    attempts: int = field(default=0, compare=False)


@dataclass(frozen=True)
class _Call:
    """What a worker was asked to do."""

    worker: int
    work: list[_Work]
    updates: list[Any]


class RayExecutor:
    """See the module docstring.

    Args:
        lane: one server actor and its client actors.
        config: the experiment.
        data: reference to the federated data, put into the object store once.
    """

    def __init__(self, lane: Lane, config: ExperimentConfig, data: ray.ObjectRef[FederatedData]) -> None:
        self._lane, self._config, self._data = lane, config, data
        server_ready = lane.server.setup.remote(config, server_data(config, data))
        setups = [client.setup.remote(config, data) for client in lane.clients]
        for worker, ready in enumerate(setups):
            self._set_up(worker, ready)
        self._current: Any = ray.put(fetched(server_ready, actor="server"))
        self._arrivals = 0
        self._settled_arrivals = 0
        self._bases: BaseModels[Any] = BaseModels()
        self._waiting: list[_Work] = []
        self._calls: dict[Any, _Call] = {}
        self._load = [0] * len(lane.clients)
        self._updates: dict[int, Any] = {}
        self._evaluations: dict[int, Evaluation] = {}
        self._models: dict[int, Any] = {}
        self._steps: deque[tuple[int, Any]] = deque()
        self._outcomes: dict[int, AppliedUpdate] = {}
        self._job_seconds = CALL_SECONDS
        self.look_ahead = 2 * len(lane.clients) + 2

    # --- the protocol -------------------------------------------------------------------------------------------

    def submit(self, task: ClientTask) -> None:
        self._bases.hold(task.base_arrivals, self._current)
        self._queue(task)

    def apply(self, task: ClientTask) -> Pending[AppliedUpdate]:
        while task.job not in self._updates:
            self._turn(wait=True)
        update = self._updates.pop(task.job)
        base = self._bases[task.base_arrivals]
        call = self._lane.server.apply.options(num_returns=2)
        self._current, outcome = call.remote(base, update, self._arrivals)
        self._bases.release(task.base_arrivals)
        self._arrivals += 1
        self._steps.append((self._arrivals, outcome))
        self._turn(wait=False)
        return _Awaited(self, self._outcomes, self._arrivals)

    def evaluate(self) -> Pending[Evaluation]:
        self._models[self._arrivals] = self._current
        heapq.heappush(self._waiting, _Work((0, 0, self._arrivals), None, self._arrivals))
        return _Awaited(self, self._evaluations, self._arrivals)

    def capture(self) -> tuple[ServerCapture, dict[int, ModelSnapshot]]:
        server = self._lane.server.capture.remote()
        bases = {key: fetched(base, actor="server") for key, base in self._bases.held().items()}
        return fetched(server, actor="server"), bases

    def restore(
        self, server: ServerCapture, arrivals: int, bases: dict[int, ModelSnapshot], tasks: list[ClientTask]
    ) -> None:
        self._current = self._lane.server.restore.remote(server)
        fetched(self._current, actor="server")
        self._arrivals = self._settled_arrivals = arrivals
        references = {key: ray.put(snapshot) for key, snapshot in bases.items()}
        for task in tasks:
            self._bases.hold(task.base_arrivals, references[task.base_arrivals])
            self._queue(task)

    def current_model(self) -> ModelSnapshot:
        snapshot: ModelSnapshot = fetched(self._current, actor="server")
        return snapshot

    # --- keeping workers busy -----------------------------------------------------------------------------------

    def _queue(self, task: ClientTask) -> None:
        heapq.heappush(self._waiting, _Work((task.arrives_at, 1, task.job), task, task.base_arrivals))

    def _turn(self, *, wait: bool) -> None:
        """Hand out work, then collect what has finished; `wait` = until something has."""
        self._hand_out()
        watched = [*self._calls, *(outcome for _, outcome in islice(self._steps, 1))]
        if not watched:
            raise RuntimeError("nothing is under way, yet a result is awaited")
        for reference in done_of(watched, wait=wait):
            if reference in self._calls:
                self._collect(reference)
        while self._steps and done_of([self._steps[0][1]], wait=False):
            arrivals, outcome = self._steps.popleft()
            self._outcomes[arrivals] = fetched(outcome, actor="server")
            self._settled_arrivals = arrivals
        self._hand_out()

    def _hand_out(self) -> None:
        held_back: list[_Work] = []
        for _ in range(QUEUED_CALLS):
            for worker, load in enumerate(self._load):
                if load < QUEUED_CALLS:
                    self._call(worker, self._next_work(held_back))
        for work in held_back:
            heapq.heappush(self._waiting, work)

    def _next_work(self, held_back: list[_Work]) -> list[_Work]:
        """The most urgent work whose server model exists: one evaluation, or jobs for about CALL_SECONDS."""
        share = math.ceil(len(self._waiting) / (QUEUED_CALLS * len(self._load)))
        most = max(1, min(MOST_JOBS_PER_CALL, share, round(CALL_SECONDS / self._job_seconds)))
        batch: list[_Work] = []
        while self._waiting and len(batch) < most:
            work = heapq.heappop(self._waiting)
            if work.arrivals > self._settled_arrivals:
                held_back.append(work)
            elif work.task is None and batch:
                heapq.heappush(self._waiting, work)
                break
            else:
                batch.append(work)
                if work.task is None:
                    break
        return batch

    def _call(self, worker: int, work: list[_Work]) -> None:
        if not work:
            return
        client = self._lane.clients[worker]
        tasks = [item.task for item in work if item.task is not None]
        if tasks:
            bases = [self._bases[task.base_arrivals] for task in tasks]
            *updates, sentinel = client.train.options(num_returns=len(tasks) + 1).remote(tasks, *bases)
        else:
            updates, sentinel = [], client.evaluate.remote(self._models[work[0].arrivals])
        self._calls[sentinel] = _Call(worker, work, updates)
        self._load[worker] += 1

    def _collect(self, sentinel: Any) -> None:
        call = self._calls[sentinel]
        try:
            result = ray.get(sentinel)
        except RayTaskError as error:
            raise cause_of(error) from None
        except RayError as error:
            self._take_back(call.worker, error)
            return
        del self._calls[sentinel]
        self._load[call.worker] -= 1
        if isinstance(result, Evaluation):
            arrivals = call.work[0].arrivals
            self._evaluations[arrivals] = result
            del self._models[arrivals]
            return
        self._job_seconds = 0.5 * self._job_seconds + 0.5 * max(1e-4, result / len(call.work))
        for item, update in zip(call.work, call.updates, strict=True):
            assert item.task is not None
            self._updates[item.task.job] = update

    def _take_back(self, worker: int, error: RayError) -> None:
        """A worker is gone: give back everything it was asked to do, and start another."""
        lost = [sentinel for sentinel, call in self._calls.items() if call.worker == worker]
        for position, sentinel in enumerate(lost):
            for item in self._calls.pop(sentinel).work:
                item.attempts += (
                    position == 0
                )  # later calls were only queued: nothing speaks against their jobs
                if item.attempts >= ATTEMPTS:
                    job = f"a job of client {item.task.client_id}" if item.task else "an evaluation"
                    raise UserError(
                        f"compute: {job} lost its worker {ATTEMPTS} times ({type(error).__name__}); "
                        "is there enough memory? the run can be resumed",
                        exit_code=ExitCode.ENVIRONMENT,
                    )
                heapq.heappush(self._waiting, item)
        self._load[worker] = 0
        self._set_up(worker, self._lane.replace_client(worker).setup.remote(self._config, self._data))

    def _set_up(self, worker: int, ready: Any) -> None:
        """Wait until a client actor has taken on the experiment; one that died is replaced."""
        for _ in range(ATTEMPTS - 1):
            try:
                ray.get(ready)
            except RayTaskError as error:
                raise cause_of(error) from None
            except RayActorError:
                ready = self._lane.replace_client(worker).setup.remote(self._config, self._data)
            else:
                return
        fetched(ready, actor="client")


@dataclass(frozen=True)
class _Awaited(Generic[T]):
    """A value that appears in `values` under `key` while the executor takes turns."""

    executor: RayExecutor
    values: dict[int, T]
    key: int

    def ready(self) -> bool:
        if self.key not in self.values:
            self.executor._turn(wait=False)
        return self.key in self.values

    def result(self) -> T:
        while self.key not in self.values:
            self.executor._turn(wait=True)
        return self.values.pop(self.key)

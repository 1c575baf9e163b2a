"""Client jobs on a pool of actors, server steps on the server actor; the driver moves references only.

Tasks in flight are trained ahead of their due time. A server step is submitted when its upload is there, strictly in
the order of the timeline, so results do not depend on which worker finished when; as an upload reaches the server only
after it arrived here whole, it is applied exactly once. A dead worker is replaced on the way. When the server is gone,
or a model that only it had, so is everything since the last snapshot: that is `ServerLostError`, whose replacement is
made of the same lane and begins with none of the references of this executor.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar

import ray

from fedrevive.assemble import server_data
from fedrevive.core.messages import ClientTask, ModelSnapshot
from fedrevive.runtime.client_pool import ATTEMPTS, ClientPool
from fedrevive.runtime.lane import Lane
from fedrevive.runtime.waiting import LostError, done_of, fetched
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import ExitCode, UserError
from fedrevive.simulation.executor import BaseModels, Pending, ServerLostError
from fedrevive.simulation.records import (
    AppliedUpdate,
    CohortEnd,
    Evaluation,
    RejectedUpdate,
    ServerCapture,
)
from fedrevive.tasks.federated import FederatedData

T = TypeVar("T")


class RayExecutor:
    """See the module docstring.

    Args:
        lane: one server actor and its client actors.
        config: the experiment.
        data: reference to the federated data, put into the object store once.

    Raises:
        UserError: the server actor died several times before it was ready (exit code 5).
    """

    def __init__(self, lane: Lane, config: ExperimentConfig, data: ray.ObjectRef[FederatedData]) -> None:
        self._lane, self._config, self._data = lane, config, data
        self._pool = ClientPool(lane, config, data)
        self._current: Any = ray.put(self._server_ready())
        self._arrivals = 0
        self._settled_arrivals = 0
        self._bases: BaseModels[Any] = BaseModels()
        self._steps: deque[_Step] = deque()
        self._steps_submitted = 0
        self._outcomes: dict[int, Any] = {}
        # Not a method of this executor: whoever keeps it must not keep the models that this one refers to.
        self._replacement = partial(_with_new_server, lane, config, data)
        self.look_ahead = 2 * len(lane.clients) + 2

    # --- the protocol -------------------------------------------------------------------------------------------

    def submit(self, task: ClientTask) -> None:
        self._bases.hold(task.base_arrivals, self._current)
        self._pool.train(task, self._current)

    def apply(self, task: ClientTask) -> Pending[AppliedUpdate | RejectedUpdate]:
        while task.job not in self._pool.updates:
            self._turn(wait=True)
        update = self._pool.updates.pop(task.job)
        base = self._bases[task.base_arrivals]
        call = self._lane.server.apply.options(num_returns=2)
        self._current, outcome = call.remote(base, update, self._arrivals)
        self._bases.release(task.base_arrivals)
        self._arrivals += 1
        awaited: _Awaited[AppliedUpdate | RejectedUpdate] = self._next_step(outcome)
        self._turn(wait=False)
        return awaited

    def end_cohort(self) -> Pending[CohortEnd]:
        self._current, ended = self._lane.server.end_cohort.options(num_returns=2).remote()
        return self._next_step(ended)

    def evaluate(self) -> Pending[Evaluation]:
        self._pool.evaluate(self._arrivals, self._current)
        return _Awaited(self, self._pool.evaluations, self._arrivals)

    def capture(self) -> tuple[ServerCapture, dict[int, ModelSnapshot]]:
        server = self._lane.server.capture.remote()
        bases = {key: self._fetched(base) for key, base in self._bases.held().items()}
        return self._fetched(server), bases

    def restore(
        self, server: ServerCapture, arrivals: int, bases: dict[int, ModelSnapshot], tasks: list[ClientTask]
    ) -> None:
        self._current = self._lane.server.restore.remote(server)
        self._fetched(self._current)
        self._arrivals = self._settled_arrivals = arrivals
        references = {key: ray.put(snapshot) for key, snapshot in bases.items()}
        for task in tasks:
            base = references[task.base_arrivals]
            self._bases.hold(task.base_arrivals, base)
            self._pool.train(task, base)

    def current_model(self) -> ModelSnapshot:
        snapshot: ModelSnapshot = self._fetched(self._current)
        return snapshot

    # --- taking turns with Ray ----------------------------------------------------------------------------------

    def _next_step(self, outcome: Any) -> _Awaited[Any]:
        """Steps have numbers of their own: cohorts of which nothing arrives end at the same number of arrivals."""
        self._steps_submitted += 1
        self._steps.append(_Step(self._steps_submitted, self._arrivals, outcome))
        return _Awaited(self, self._outcomes, self._steps_submitted)

    def _turn(self, *, wait: bool) -> None:
        """Hand out work, then collect what has finished; `wait` = until something has."""
        self._pool.hand_out(self._settled_arrivals)
        watched = [*self._pool.under_way, *(step.outcome for step in islice(self._steps, 1))]
        if not watched:
            raise RuntimeError("nothing is under way, yet a result is awaited")
        try:
            self._pool.collect(done_of(watched, wait=wait))
        except LostError as lost:
            raise ServerLostError(str(lost), self._replacement) from None
        while self._steps and done_of([self._steps[0].outcome], wait=False):
            step = self._steps.popleft()
            self._outcomes[step.number] = self._fetched(step.outcome)
            self._settled_arrivals = step.arrivals
            self._pool.moved_on()
        self._pool.hand_out(self._settled_arrivals)

    def _server_ready(self) -> ModelSnapshot:
        """The initial model, once the server actor has taken on the experiment; one that dies is replaced."""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._lane.replace_server()
            ready = self._lane.server.setup.remote(self._config, server_data(self._config, self._data))
            try:
                started: tuple[int, ModelSnapshot] = fetched(ready)
            except LostError as lost:
                cause = str(lost)
            else:
                self._lane.server_pid, initial = started
                return initial
        raise UserError(
            f"compute: the server actor died {ATTEMPTS} times before it was ready ({cause}); is there enough memory? "
            "the run can be resumed",
            exit_code=ExitCode.ENVIRONMENT,
        )

    def _fetched(self, reference: Any) -> Any:
        try:
            return fetched(reference)
        except LostError as lost:
            raise ServerLostError(str(lost), self._replacement) from None


def _with_new_server(lane: Lane, config: ExperimentConfig, data: ray.ObjectRef[FederatedData]) -> RayExecutor:
    lane.replace_server()
    return RayExecutor(lane, config, data)


@dataclass(frozen=True)
class _Step:
    """A server step under way."""

    number: int
    """1, 2, 3, ... in the order of submission."""
    arrivals: int
    """Uploads taken once it is done."""
    outcome: Any
    """Reference to what happened."""


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

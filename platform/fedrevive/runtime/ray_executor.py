"""Client jobs on a pool of actors, server steps on the server actor; the driver moves references only.

Tasks in flight are trained ahead of their due time. A server step is submitted when its upload is there, strictly in
the order of the timeline, so results do not depend on which worker finished when; as an upload reaches the server only
after it arrived here whole, it is applied exactly once. A dead worker is replaced on the way. When the server is gone,
or a model that only it had, so is everything since the last snapshot: that is `ServerLostError`, whose replacement is
made of the same lane and begins with none of the references of this executor.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, NoReturn, TypeVar

import ray

from fedrevive.assemble import server_data
from fedrevive.core.messages import ClientTask, ModelSnapshot
from fedrevive.runtime.client_pool import ATTEMPTS, ClientPool
from fedrevive.runtime.lane import Lane
from fedrevive.runtime.server_steps import ServerSteps
from fedrevive.runtime.stored import Batch, Stored, most_per_call
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

TURN_SECONDS = 0.01
"""While uploads are there without waiting, how long idle workers and finished calls may go unnoticed. Ours."""


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
        initial = self._server_ready()
        most = most_per_call(initial.model.nbytes, config.server.concurrency)
        self._pool = ClientPool(lane, config, data, most)
        self._steps = ServerSteps(lane, most)
        self._current = Stored(Batch(ray.put([initial])), 0)
        self._arrivals = 0
        self._turned = time.monotonic()
        self._bases: BaseModels[Stored] = BaseModels()
        # Not a method of this executor: whoever keeps it must not keep the models that this one refers to.
        self._replacement = partial(_with_new_server, lane, config, data)

    # --- the protocol -------------------------------------------------------------------------------------------

    @property
    def look_ahead(self) -> int:
        """More when steps are cheap; an interruption waits for those that are under way."""
        return 2 * len(self._lane.clients) + 4 * self._steps.most

    def submit(self, task: ClientTask) -> None:
        self._bases.hold(task.base_arrivals, self._current)
        self._pool.train(task, self._current)

    def apply(self, task: ClientTask) -> Pending[AppliedUpdate | RejectedUpdate]:
        while task.job not in self._pool.updates and self._steps.error is None:
            self._turn(wait=True)
        if (
            self._steps.error is not None
        ):  # the loop meets it in its place, after the records of what came before
            return _Never()
        update = self._pool.updates.pop(task.job)
        number, self._current = self._steps.take(self._bases[task.base_arrivals], update, self._arrivals)
        self._bases.release(task.base_arrivals)
        self._arrivals += 1
        if time.monotonic() > self._turned + TURN_SECONDS:
            self._turn(wait=False)
        return _Awaited(self, self._steps.outcomes, number)

    def end_cohort(self) -> Pending[CohortEnd]:
        number, self._current = self._steps.end_cohort()
        return _Awaited(self, self._steps.outcomes, number)

    def evaluate(self) -> Pending[Evaluation]:
        self._pool.evaluate(self._arrivals, self._current)
        return _Awaited(self, self._pool.evaluations, self._arrivals)

    def capture(self) -> tuple[ServerCapture, dict[int, ModelSnapshot]]:
        self._steps.send()
        server = self._lane.server.capture.remote()
        bases = {key: self._model(base) for key, base in self._bases.held().items()}
        return self._fetched(server), bases

    def restore(
        self, server: ServerCapture, arrivals: int, bases: dict[int, ModelSnapshot], tasks: list[ClientTask]
    ) -> None:
        restored = self._lane.server.restore.remote(server)
        self._fetched(restored)
        self._current = Stored(Batch(restored), 0)
        self._arrivals = arrivals
        stored = {key: Stored(Batch(ray.put([snapshot])), 0) for key, snapshot in bases.items()}
        for task in tasks:
            base = stored[task.base_arrivals]
            self._bases.hold(task.base_arrivals, base)
            self._pool.train(task, base)

    def current_model(self) -> ModelSnapshot:
        self._steps.send()
        return self._model(self._current)

    # --- taking turns with Ray ----------------------------------------------------------------------------------

    def _turn(self, *, wait: bool) -> None:
        """Hand out work, then collect what has finished; `wait` = until something has."""
        self._steps.send()
        self._pool.hand_out(self._steps.settled)
        watched = [*self._pool.under_way, *self._steps.under_way]
        if not watched:
            raise RuntimeError("nothing is under way, yet a result is awaited")
        try:
            done = done_of(watched, wait=wait)
            self._pool.collect(done)
            while self._steps.under_way and done_of(self._steps.under_way, wait=False):
                self._steps.collect()
                self._pool.moved_on()
        except LostError as lost:
            raise ServerLostError(str(lost), self._replacement) from None
        self._pool.hand_out(self._steps.settled)
        self._turned = time.monotonic()

    def _model(self, stored: Stored) -> ModelSnapshot:
        batch: list[ModelSnapshot] = self._fetched(stored.batch.reference)
        return batch[stored.row]

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


class _Never:
    """What comes after the step that ended the run."""

    def ready(self) -> bool:
        return False

    def result(self) -> NoReturn:
        raise RuntimeError("waited for a step after the last one")


@dataclass(frozen=True)
class _Awaited(Generic[T]):
    """A value that appears in `values` under `key` while the executor takes turns; an error there is raised."""

    executor: RayExecutor
    values: dict[int, Any]
    key: int

    def ready(self) -> bool:
        return self.key in self.values

    def result(self) -> T:
        while self.key not in self.values:
            self.executor._turn(wait=True)
        value: T | UserError = self.values.pop(self.key)
        if isinstance(value, UserError):
            raise value
        return value

"""How work is carried out: the protocol, and the inline executor that is its reference and debugger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from fedrevive.core.evaluation import Measurement
from fedrevive.core.messages import ClientTask, ClientUpdate, FloatVector, ModelSnapshot
from fedrevive.core.stopwatch import Stopwatch
from fedrevive.simulation.records import (
    AppliedUpdate,
    CohortEnd,
    Evaluation,
    RejectedUpdate,
    ServerCapture,
)
from fedrevive.simulation.server import Server

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Pending(Protocol[T_co]):
    """A value that may still be computing."""

    def ready(self) -> bool:
        """True when `result` will not wait."""

    def result(self) -> T_co:
        """Wait for the value."""


@dataclass(frozen=True)
class Ready(Generic[T]):
    """A value that is there."""

    value: T

    def ready(self) -> bool:
        return True

    def result(self) -> T:
        return self.value


class ServerLostError(Exception):
    """The server's process died, or a model it had made is gone; nothing of the executor may be used any more.

    Args:
        cause: what was lost, for a message.
        replacement: makes an executor for the same experiment with a new server, in its initial state.
    """

    def __init__(self, cause: str, replacement: Callable[[], Executor]) -> None:
        super().__init__(cause)
        self.replacement = replacement


class Executor(Protocol):
    """Carries out client jobs, server steps and evaluations; the order of server steps is the order of `apply`.

    The server model after n uploads, accepted or rejected, is named by n. `submit` takes tasks whose base is the
    current model. Every call, and every value that is awaited, may raise `ServerLostError`.
    """

    @property
    def look_ahead(self) -> int:
        """Server steps that may be under way before the loop waits for the oldest."""

    def submit(self, task: ClientTask) -> None:
        """Take a task dispatched from the current server model; it may be trained at once."""

    def apply(self, task: ClientTask) -> Pending[AppliedUpdate | RejectedUpdate]:
        """Take the task's upload as the next server step."""

    def end_cohort(self) -> Pending[CohortEnd]:
        """Make a version of what is pending, as the next server step; the model keeps its name."""

    def evaluate(self) -> Pending[Evaluation]:
        """Measure the current server model."""

    def capture(self) -> tuple[ServerCapture, dict[int, ModelSnapshot]]:
        """Server state now, and the base models of all tasks in flight by arrivals at dispatch."""

    def restore(
        self, server: ServerCapture, arrivals: int, bases: dict[int, ModelSnapshot], tasks: list[ClientTask]
    ) -> None:
        """Continue after `arrivals` uploads, accepted or rejected, with `tasks` in flight, each from its own base."""

    def current_model(self) -> ModelSnapshot:
        """The current server model."""


class Trainer(Protocol):
    """The client side of an experiment: `assemble.client_trainer` makes one."""

    def train(self, base: ModelSnapshot, task: ClientTask) -> ClientUpdate:
        """Train one client from `base`."""

    def evaluate(self, model: FloatVector) -> Evaluation:
        """Measure a server model."""


class BaseModels(Generic[T]):
    """Server models that tasks in flight started from, counted so that each is dropped with its last task."""

    def __init__(self) -> None:
        self._models: dict[int, T] = {}
        self._users: dict[int, int] = {}

    def hold(self, arrivals: int, model: T) -> None:
        """One more task starts from the model after `arrivals` uploads."""
        self._models.setdefault(arrivals, model)
        self._users[arrivals] = self._users.get(arrivals, 0) + 1

    def __getitem__(self, arrivals: int) -> T:
        return self._models[arrivals]

    def release(self, arrivals: int) -> None:
        """The upload of a task that started there was taken."""
        self._users[arrivals] -= 1
        if not self._users[arrivals]:
            del self._users[arrivals], self._models[arrivals]

    def held(self) -> dict[int, T]:
        """All models in use, by arrivals."""
        return dict(self._models)


class InlineExecutor:
    """Everything in this process; a client trains when its upload is due."""

    look_ahead = 0

    def __init__(self, server: Server, trainer: Trainer) -> None:
        self._server = server
        self._trainer = trainer
        self._current = server.snapshot()
        self._arrivals = 0
        self._bases: BaseModels[ModelSnapshot] = BaseModels()

    def submit(self, task: ClientTask) -> None:
        self._bases.hold(task.base_arrivals, self._current)

    def apply(self, task: ClientTask) -> Pending[AppliedUpdate | RejectedUpdate]:
        base = self._bases[task.base_arrivals]
        update = self._trainer.train(base, task)
        self._current, outcome = self._server.apply(base, update, self._arrivals)
        self._arrivals += 1
        self._bases.release(task.base_arrivals)
        return Ready(outcome)

    def end_cohort(self) -> Pending[CohortEnd]:
        self._current, ended = self._server.end_cohort()
        return Ready(ended)

    def evaluate(self) -> Pending[Evaluation]:
        return Ready(self._trainer.evaluate(self._current.model))

    def capture(self) -> tuple[ServerCapture, dict[int, ModelSnapshot]]:
        return self._server.capture(), self._bases.held()

    def restore(
        self, server: ServerCapture, arrivals: int, bases: dict[int, ModelSnapshot], tasks: list[ClientTask]
    ) -> None:
        self._current = self._server.restore(server)
        self._arrivals = arrivals
        for task in tasks:
            self._bases.hold(task.base_arrivals, bases[task.base_arrivals])

    def current_model(self) -> ModelSnapshot:
        return self._current


def timed_evaluation(measure: Callable[[], tuple[Measurement, Measurement]]) -> Evaluation:
    """Run `measure` -> (test, validation) and time it."""
    watch = Stopwatch()
    test, validation = measure()
    return Evaluation(
        test.accuracy, test.loss, validation.accuracy, validation.loss, watch.timing("evaluate")
    )

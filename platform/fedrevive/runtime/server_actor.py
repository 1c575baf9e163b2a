"""The server as a process of its own, on a GPU when there is one."""

from __future__ import annotations

import os
import time
from typing import Any, NamedTuple

from fedrevive.assemble import server
from fedrevive.core.messages import ModelSnapshot
from fedrevive.core.process import configure_process
from fedrevive.runtime.stored import Place, found
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import UserError
from fedrevive.simulation.records import AppliedUpdate, CohortEnd, RejectedUpdate, ServerCapture
from fedrevive.simulation.server import Server
from fedrevive.tasks.federated import FederatedData


class ServerStep(NamedTuple):
    """Take an upload, or, without one, end a cohort."""

    base: Place | None = None
    """The model its client started from."""
    update: Place | None = None
    taken: int = 0
    """Uploads before it, accepted or rejected."""


Outcome = AppliedUpdate | RejectedUpdate | CohortEnd | UserError
"""What came of a step; an error ends the run."""


class ServerActor:
    """A shell over `simulation.server.Server`; Ray runs its calls one after the other in order of submission."""

    def __init__(self) -> None:
        configure_process()
        self._server: Server | None = None

    def setup(self, config: ExperimentConfig, data: FederatedData | None) -> tuple[int, ModelSnapshot]:
        """Take on an experiment (`data` for an oracle only); returns the process id and the initial model."""
        self._server = server(config, data)
        return os.getpid(), self._server.snapshot()

    def carry_out(
        self, steps: list[ServerStep], *batches: list[Any]
    ) -> tuple[list[ModelSnapshot], tuple[list[Outcome], float]]:
        """Carry out steps: the model after each; what happened, up to the first error, and the seconds it took.

        Args:
            steps: in order.
            batches: the lists in which their places are.
        """
        assert self._server is not None
        clock = time.perf_counter()
        models: list[ModelSnapshot] = []
        outcomes: list[Outcome] = []
        for step in steps:
            try:
                model, outcome = self._carried_out(self._server, step, batches)
            except UserError as error:
                outcomes.append(error)
                break
            models.append(model)
            outcomes.append(outcome)
        return models, (outcomes, time.perf_counter() - clock)

    def capture(self) -> ServerCapture:
        """The whole server state."""
        assert self._server is not None
        return self._server.capture()

    def restore(self, capture: ServerCapture) -> list[ModelSnapshot]:
        """Continue from a captured state; returns the current model."""
        assert self._server is not None
        return [self._server.restore(capture)]

    def _carried_out(
        self, server: Server, step: ServerStep, batches: tuple[list[Any], ...]
    ) -> tuple[ModelSnapshot, AppliedUpdate | RejectedUpdate | CohortEnd]:
        if step.base is None or step.update is None:
            return server.end_cohort()
        return server.apply(found(step.base, batches), found(step.update, batches), step.taken)

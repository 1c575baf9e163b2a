"""The server as a process of its own, on a GPU when there is one."""

from __future__ import annotations

import os

from fedrevive.assemble import server
from fedrevive.core.messages import ClientUpdate, ModelSnapshot
from fedrevive.core.process import configure_process
from fedrevive.settings import ExperimentConfig
from fedrevive.simulation.records import AppliedUpdate, CohortEnd, RejectedUpdate, ServerCapture
from fedrevive.simulation.server import Server
from fedrevive.tasks.federated import FederatedData


class ServerActor:
    """A shell over `simulation.server.Server`; Ray runs its calls one after the other in order of submission."""

    def __init__(self) -> None:
        configure_process()
        self._server: Server | None = None

    def setup(self, config: ExperimentConfig, data: FederatedData | None) -> tuple[int, ModelSnapshot]:
        """Take on an experiment (`data` for an oracle only); returns the process id and the initial model."""
        self._server = server(config, data)
        return os.getpid(), self._server.snapshot()

    def apply(
        self, base: ModelSnapshot, update: ClientUpdate, taken: int
    ) -> tuple[ModelSnapshot, AppliedUpdate | RejectedUpdate]:
        """Take one upload: the model afterwards and what happened."""
        assert self._server is not None
        return self._server.apply(base, update, taken)

    def end_cohort(self) -> tuple[ModelSnapshot, CohortEnd]:
        """Make a version of what is pending."""
        assert self._server is not None
        return self._server.end_cohort()

    def capture(self) -> ServerCapture:
        """The whole server state."""
        assert self._server is not None
        return self._server.capture()

    def restore(self, capture: ServerCapture) -> ModelSnapshot:
        """Continue from a captured state; returns the current model."""
        assert self._server is not None
        return self._server.restore(capture)

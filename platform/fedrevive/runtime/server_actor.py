"""The server as a process of its own, on a GPU when there is one."""

from __future__ import annotations

from fedrevive.assemble import server
from fedrevive.core.messages import ClientUpdate, ModelSnapshot
from fedrevive.core.process import configure_process
from fedrevive.settings import ExperimentConfig
from fedrevive.simulation.records import AppliedUpdate, ServerCapture
from fedrevive.simulation.server import Server
from fedrevive.tasks.federated import FederatedData


class ServerActor:
    """A shell over `simulation.server.Server`; Ray runs its calls one after the other in order of submission."""

    def __init__(self) -> None:
        configure_process()
        self._server: Server | None = None

    def setup(self, config: ExperimentConfig, data: FederatedData | None) -> ModelSnapshot:
        """Take on an experiment (`data` for an oracle only); returns the initial model."""
        self._server = server(config, data)
        return self._server.snapshot()

    def apply(
        self, base: ModelSnapshot, update: ClientUpdate, sequence: int
    ) -> tuple[ModelSnapshot, AppliedUpdate]:
        """Accept one upload: the new model and what happened."""
        assert self._server is not None
        return self._server.apply(base, update, sequence)

    def capture(self) -> ServerCapture:
        """The whole server state."""
        assert self._server is not None
        return self._server.capture()

    def restore(self, capture: ServerCapture) -> ModelSnapshot:
        """Continue from a captured state; returns the current model."""
        assert self._server is not None
        return self._server.restore(capture)

"""A worker process that serves any number of virtual clients."""

from __future__ import annotations

import os
import time

from fedrevive.assemble import client_trainer
from fedrevive.core.messages import ClientTask, ClientUpdate, ModelSnapshot
from fedrevive.core.process import configure_process
from fedrevive.runtime.stored import Place, found
from fedrevive.settings import ExperimentConfig
from fedrevive.simulation.executor import Trainer
from fedrevive.simulation.records import Evaluation
from fedrevive.tasks.federated import FederatedData


class ClientActor:
    """Holds one module and the data of all clients; jobs are pure, so any actor may run any job, twice if need be."""

    def __init__(self) -> None:
        configure_process()
        self._trainer: Trainer | None = None

    def setup(self, config: ExperimentConfig, data: FederatedData) -> int:
        """Take on an experiment; returns the process id."""
        self._trainer = client_trainer(config, data)
        return os.getpid()

    def train(
        self, tasks: list[ClientTask], bases: list[Place], *models: list[ModelSnapshot]
    ) -> tuple[list[ClientUpdate], float]:
        """Train `tasks`, each from its own base among `models`: their updates, and the seconds all took."""
        assert self._trainer is not None
        clock = time.perf_counter()
        updates = [
            self._trainer.train(found(base, models), task) for task, base in zip(tasks, bases, strict=True)
        ]
        return updates, time.perf_counter() - clock

    def evaluate(self, place: Place, models: list[ModelSnapshot]) -> Evaluation:
        """Measure a server model."""
        assert self._trainer is not None
        return self._trainer.evaluate(found(place, (models,)).model)

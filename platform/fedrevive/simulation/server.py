"""The server: one algorithm, its state, and nothing else."""

from __future__ import annotations

import dataclasses

import torch

from fedrevive.algorithms import STATE_TYPES
from fedrevive.algorithms.server_algorithm import ServerAlgorithm
from fedrevive.core.messages import ClientUpdate, ModelSnapshot
from fedrevive.core.state_tree import decode, encode
from fedrevive.core.stopwatch import Stopwatch
from fedrevive.simulation.records import AppliedUpdate, ServerCapture


class Server:
    """Owns the server state; updates are applied strictly in the order of the calls."""

    def __init__(self, algorithm: ServerAlgorithm, device: torch.device) -> None:
        self._algorithm = algorithm
        self._device = device
        self._state = algorithm.init()

    def snapshot(self) -> ModelSnapshot:
        """The current model as clients receive it."""
        return ModelSnapshot(
            self._state.version,
            self._state.model.to("cpu", copy=True).numpy(),
            self._algorithm.local_steps(self._state),
        )

    def apply(
        self, base: ModelSnapshot, update: ClientUpdate, sequence: int
    ) -> tuple[ModelSnapshot, AppliedUpdate]:
        """Accept one upload and return the new model and what happened.

        Raises:
            RuntimeError: uploads came in another order than the timeline's.
        """
        if sequence != self._state.arrivals:
            raise RuntimeError(f"upload {sequence} applied after {self._state.arrivals} others")
        watch = Stopwatch()
        self._state, info = self._algorithm.apply(self._state, base, update)
        snapshot = self.snapshot()
        applied = watch.timing("apply", sequence)
        trained = dataclasses.replace(update.timing, sequence=sequence) if update.timing else None
        timings = (trained, applied) if trained else (applied,)
        return snapshot, AppliedUpdate(info, update.train_loss, update.samples, timings)

    def capture(self) -> ServerCapture:
        """The whole state, copied."""
        return ServerCapture(*encode(self._state))

    def restore(self, capture: ServerCapture) -> ModelSnapshot:
        """Continue from a captured state; returns the current model."""
        self._state = decode(capture.structure, capture.arrays, STATE_TYPES, self._device)
        return self.snapshot()

"""The server: one algorithm, its state, and nothing else."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from fedrevive.algorithms import STATE_TYPES
from fedrevive.algorithms.server_algorithm import ServerAlgorithm
from fedrevive.core.gate import Gate, GateMemory
from fedrevive.core.messages import ClientUpdate, FloatVector, ModelSnapshot
from fedrevive.core.state_tree import decode, encode
from fedrevive.core.stopwatch import Stopwatch
from fedrevive.settings.errors import ExitCode, UserError
from fedrevive.simulation.records import AppliedUpdate, CohortEnd, RejectedUpdate, ServerCapture


class Server:
    """Owns the server state and the gate in front of it; updates are taken strictly in the order of the calls."""

    def __init__(self, algorithm: ServerAlgorithm, gate: Gate, device: torch.device) -> None:
        self._algorithm = algorithm
        self._gate = gate
        self._device = device
        self._state = algorithm.init()
        self._seen = GateMemory()
        self._sent: tuple[Tensor, FloatVector] | None = None

    def snapshot(self) -> ModelSnapshot:
        """The current model as clients receive it: the state's own memory where that is the host's, else one copy.

        No algorithm writes into a model of its state: a version has a model of its own.
        """
        if self._sent is None or self._sent[0] is not self._state.model:
            values = self._state.model.cpu().numpy()
            values.flags.writeable = False
            self._sent = self._state.model, values
        return ModelSnapshot(self._state.version, self._sent[1], self._algorithm.local_steps(self._state))

    def apply(
        self, base: ModelSnapshot, update: ClientUpdate, taken: int
    ) -> tuple[ModelSnapshot, AppliedUpdate | RejectedUpdate]:
        """Accept or reject one upload and return the model afterwards and what happened.

        Args:
            base: the model the client started from.
            update: the upload.
            taken: uploads before it, accepted or rejected.

        Raises:
            RuntimeError: uploads came in another order than the timeline's.
            UserError: the model has diverged (exit code 6).
        """
        before = self._state.arrivals + self._seen.rejected
        if taken != before:
            raise RuntimeError(f"upload {taken} applied after {before} others")
        watch = Stopwatch()
        reason, self._seen = self._gate.judged(base.model, update.model, self._seen)
        if reason is not None:
            judged = watch.timing("apply")
            return self.snapshot(), RejectedUpdate(
                reason, (update.timing, judged) if update.timing else (judged,)
            )
        sequence = self._state.arrivals
        self._state, info = self._algorithm.apply(self._state, base, update)
        snapshot = _sound(self.snapshot())
        applied = watch.timing("apply", sequence)
        trained = dataclasses.replace(update.timing, sequence=sequence) if update.timing else None
        timings = (trained, applied) if trained else (applied,)
        return snapshot, AppliedUpdate(info, update.train_loss, update.samples, timings)

    def end_cohort(self) -> tuple[ModelSnapshot, CohortEnd]:
        """Make a version of the updates that are pending because others of their cohort were lost or rejected."""
        self._state = self._algorithm.complete(self._state)
        return _sound(self.snapshot()), CohortEnd(self._state.version)

    def capture(self) -> ServerCapture:
        """The whole state, copied."""
        return ServerCapture(*encode(self._state), self._seen)

    def restore(self, capture: ServerCapture) -> ModelSnapshot:
        """Continue from a captured state; returns the current model."""
        self._state = decode(capture.structure, capture.arrays, STATE_TYPES, self._device)
        self._seen = capture.gate
        return self.snapshot()


def _sound(snapshot: ModelSnapshot) -> ModelSnapshot:
    """The snapshot itself; a run whose model has NaN or infinite values ends here."""
    if not np.isfinite(snapshot.model).all():
        raise UserError(
            f"server: diverged, the model of version {snapshot.version} is not finite; lower server.lr or client.lr, "
            "or keep server.gate.finite=true",
            exit_code=ExitCode.POLICY,
        )
    return snapshot

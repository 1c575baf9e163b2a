"""What Ray alone costs: a model to an actor and an update of the same size back, as in a client's call."""

from __future__ import annotations

from typing import Any

import numpy as np
import ray

from fedrevive.core.messages import FloatVector


class EchoActor:
    """Answers at once."""

    def answer(self, model: FloatVector) -> FloatVector:
        """An update of the model's size, in new memory."""
        return model + np.float32(1)


class Echo:
    """An `EchoActor` in the Ray session that is already there."""

    def __init__(self) -> None:
        self._actor: Any = ray.remote(EchoActor).options(num_cpus=1, max_restarts=0).remote()

    def round_trip(self, model: FloatVector) -> FloatVector:
        """Put `model` into the object store, have it answered, read the answer."""
        answer: FloatVector = ray.get(self._actor.answer.remote(ray.put(model)))
        return answer

    def close(self) -> None:
        """End the actor."""
        ray.kill(self._actor)

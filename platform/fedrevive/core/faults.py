"""Faults that clients can be made to have, and what a fault does to an upload's values.

Which job suffers which fault is decided by the timeline (simulation/faults.py); the kinds are those of the robustness
literature (drop-out, crash, duplicate, NaN, scaled and sign-flipped deltas, flipped labels), the values ours.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fedrevive.core.model_state import ModelSpec

FloatVector = NDArray[np.float32]


class Fault(IntEnum):
    """What goes wrong with a job. Values name random streams: never renumber."""

    NONE = 0
    DROPOUT = 1
    """The client never answers."""
    CRASH = 2
    """The upload is lost after training."""
    DUPLICATE = 3
    """The upload comes twice; only an event says so."""
    NAN = 4
    """The upload is all NaN."""
    EXPLOSION = 5
    """The client delta is scaled up, that of the buffers too."""
    SIGN_FLIP = 6
    """The client delta of the parameters is turned around, and scaled."""
    LABEL_FLIP = 7
    """The client trains on label classes - 1 - y instead of y."""
    LATE = 8
    """No fault of the client: its upload takes longer than faults.timeout."""

    @property
    def kind(self) -> str:
        """Name in configurations and in the events table."""
        return self.name.lower()


LOST = frozenset({Fault.DROPOUT, Fault.CRASH, Fault.LATE})
"""Jobs whose upload the server never takes: they need not be trained."""
IN_VALUES = frozenset({Fault.NAN, Fault.EXPLOSION, Fault.SIGN_FLIP, Fault.LABEL_FLIP})
"""Jobs whose upload comes once and in time, with wrong values."""


def corrupted(model: FloatVector, base: FloatVector, spec: ModelSpec, factor: float) -> FloatVector:
    """`model` with its delta scaled: base + factor*(model - base).

    A positive factor, an explosion, scales the buffers' delta too, and running variances stay >= 0: no client computes
    others, and the sign would give it away. NaN and a negative factor leave the buffers as they were trained.

    Args:
        model: what the client trained [P + S].
        base: what it started from [P + S].
        spec: what a model looks like.
        factor: NaN makes all parameters NaN, a negative one turns their delta around.
    """
    changed = model.copy()
    scaled = slice(0, spec.size if factor > 0 else spec.parameter_count)
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # a value beyond float32 becomes infinite, as it would there
        changed[scaled] = base[scaled] + np.float32(factor) * (model[scaled] - base[scaled])
    if factor > 0:
        variances = spec.running_variances
        changed[variances] = np.maximum(changed[variances], 0)
    return changed

"""The gate that every upload passes before any algorithm, and any teacher buffer, sees it.

A rejected upload changes nothing but the gate's memory. The norm rule compares an upload with all recent ones whose
values were sound, the rejected included: the median of the accepted alone could shut everyone out for ever once norms
have grown (ours; the factor and the window are those of an earlier experiment with 2 attackers among 20 clients).
Parameters and buffers are compared apart: buffers have a scale of their own and reach the model by another way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from statistics import median

import numpy as np

from fedrevive.core.messages import FloatVector
from fedrevive.core.model_state import ModelSpec
from fedrevive.settings.experiment import GateSettings

LARGEST = 1e15
"""A larger value counts as not finite: sums of squares of float32 deltas must not overflow. Ours."""
FIRST_NORMS = 5
"""Norms the norm rule needs before it can tell what is normal; until then it lets nothing through. Ours."""


@dataclass(frozen=True)
class GateMemory:
    """What the gate remembers."""

    norms: tuple[float, ...] = ()
    """L2 norms of the last client deltas with sound values, oldest first; empty without the norm rule."""
    buffer_norms: tuple[float, ...] = ()
    """L2 norms of the same uploads' buffers less those they started from."""
    rejected: int = 0
    """Uploads rejected so far."""


class Gate:
    """Judges uploads.

    Args:
        settings: which rules apply.
        spec: what a model looks like.
    """

    def __init__(self, settings: GateSettings, spec: ModelSpec) -> None:
        self._settings = settings
        self._spec = spec
        self._variances = spec.running_variances

    def judged(
        self, base: FloatVector, model: FloatVector, memory: GateMemory
    ) -> tuple[str | None, GateMemory]:
        """Why `model` must not pass (None: it may), and the memory afterwards.

        Args:
            base: what the client started from [P + S].
            model: what it uploaded, [P + S] if all is well.
            memory: from the uploads before.
        """
        reason = self._unsound(model)
        if reason is None and self._settings.max_norm_factor is not None:
            reason, memory = self._long(base, model, memory, self._settings.max_norm_factor)
        return reason, memory if reason is None else replace(memory, rejected=memory.rejected + 1)

    def _unsound(self, model: FloatVector) -> str | None:
        if model.shape != (self._spec.size,) or model.dtype != np.float32:
            shape = "x".join(str(size) for size in model.shape)
            return f"a model is {self._spec.size} x float32, this is {shape} x {model.dtype}"
        if not self._settings.finite:
            return None
        if not (model.min() >= -LARGEST and model.max() <= LARGEST):  # comparisons with NaN are false
            unsound = int(np.count_nonzero(~(np.abs(model) <= LARGEST)))
            return f"{unsound} of {model.size} values are not finite or beyond {LARGEST:g}"
        if len(self._variances) and model[self._variances].min() < 0:
            return "a running variance is negative"
        return None

    def _long(
        self, base: FloatVector, model: FloatVector, memory: GateMemory, factor: float
    ) -> tuple[str | None, GateMemory]:
        count, window = self._spec.parameter_count, self._settings.norm_window
        # In double precision, where squares of float32 values cannot overflow.
        delta = model.astype(np.float64) - base
        norm, buffers = float(np.linalg.norm(delta[:count])), float(np.linalg.norm(delta[count:]))
        if not (isfinite(norm) and isfinite(buffers)):  # finite=false lets such values come this far
            return f"norm {norm:.3g} of the parameters' delta, {buffers:.3g} of the buffers'", memory
        after = replace(
            memory,
            norms=(*memory.norms, norm)[-window:],
            buffer_norms=(*memory.buffer_norms, buffers)[-window:],
        )
        known = len(memory.norms)
        if known < FIRST_NORMS:
            return f"norm gate: observing, {known} of the first {FIRST_NORMS} norms known", after
        for what, found, usual in (
            ("norm", norm, median(memory.norms)),
            ("norm of the buffers", buffers, median(memory.buffer_norms)),
        ):
            if not found <= factor * usual:
                return f"{what} {found:.3g} > {factor:g} x {usual:.3g}, the median of the last {known}", after
        return None, after

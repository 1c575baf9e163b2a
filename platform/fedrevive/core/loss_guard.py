"""Drops loss terms that jump (published example; not in the paper)."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

WINDOW = 20
"""Accepted values remembered per loss name."""
MINIMUM = 10
"""Values a window needs before it judges."""
FACTOR = 3.0
"""A value above FACTOR times the window's mean is dropped, when that mean is positive."""

LossWindows = dict[str, tuple[float, ...]]


class LossGuard:
    """Judges loss values against the last accepted ones of the same name.

    The adversarial loss is never positive, so only the finiteness test can drop it.

    Args:
        windows: accepted values per loss name, oldest first; copied.
        enabled: False accepts everything, even NaN, and records nothing.
    """

    def __init__(self, windows: Mapping[str, tuple[float, ...]], enabled: bool = True) -> None:
        self.windows: LossWindows = dict(windows)
        self._enabled = enabled

    def accepts(self, name: str, loss: Tensor) -> bool:
        """Whether `loss` (a scalar) should count; an accepted value enters the window, a dropped one does not."""
        if not self._enabled:
            return True
        value = float(loss.detach())
        window = self.windows.get(name, ())
        if not math.isfinite(value):
            return False
        if len(window) >= MINIMUM:
            mean = sum(window) / len(window)
            if mean > 0 and value > FACTOR * mean:
                return False
        self.windows[name] = (*window, value)[-WINDOW:]
        return True

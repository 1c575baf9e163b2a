"""When an accuracy counts as reached (algorithm.md §5.16): asynchronous curves swing, so an average is looked at."""

from __future__ import annotations

from collections.abc import Sequence

WINDOW = 10
"""Evaluations in the moving average."""
TOLERANCE = 1e-12
"""Ten times 0.6 must reach 0.6, whatever the rounding of their sum."""


def reaches(latest: Sequence[float], target: float) -> bool:
    """Whether the mean of the latest WINDOW accuracies is at least `target`; not before there are that many."""
    return len(latest) >= WINDOW and sum(latest[-WINDOW:]) / WINDOW >= target - TOLERANCE

"""When an accuracy counts as reached (algorithm.md §5.16): asynchronous curves swing, so an average is looked at."""

from __future__ import annotations

from collections.abc import Sequence

from fedrevive.settings import ExperimentConfig

WINDOW = 10
"""Evaluations in the moving average of an asynchronous run."""
TOLERANCE = 1e-12
"""Ten times 0.6 must reach 0.6, whatever the rounding of their sum."""


def window(config: ExperimentConfig) -> int:
    """Evaluations in the moving average, so that it spans equally many arrivals for every algorithm (ours).

    A cohort algorithm is evaluated once per version, after K arrivals; ten of those could be its whole run.
    """
    if config.algorithm.name != "fedavg":
        return WINDOW
    return max(1, round(WINDOW * config.evaluation.every_arrivals / config.updates_per_version))


def target_of(config: ExperimentConfig) -> float | None:
    """Accuracy that a run's time to target refers to."""
    return config.evaluation.target_accuracy or config.stop.target_accuracy


def reaches(latest: Sequence[float], target: float, size: int) -> bool:
    """Whether the mean of the latest `size` accuracies is at least `target`; not before there are that many."""
    return len(latest) >= size and sum(latest[-size:]) / size >= target - TOLERANCE

"""Statistics over seeds: t intervals, paired differences on one timeline, and the rows that `compare` prints.

Two algorithms with one seed meet the same arrivals, so differences are taken seed by seed (our choice;
Student's t).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

Interval = tuple[float, float, float]
"""(mean, low, high)."""

CONFIDENCE = 0.95


def mean_interval(values: ArrayLike) -> Interval:
    """Mean and its two-sided 95 % t interval; bounds are NaN below two values, the mean too without any."""
    from scipy import stats

    sample = np.asarray(values, np.float64)
    if sample.size == 0:
        return float("nan"), float("nan"), float("nan")
    mean = float(sample.mean())
    if sample.size == 1:
        return mean, float("nan"), float("nan")
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, sample.size - 1))
    half = quantile * float(sample.std(ddof=1)) / float(np.sqrt(sample.size))
    return mean, mean - half, mean + half


def paired_difference(a: ArrayLike, b: ArrayLike) -> Interval:
    """Mean of a - b, pair by pair (one pair per seed), and its 95 % t interval.

    Raises:
        ValueError: `a` and `b` differ in length.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"a paired difference needs equal lengths, got {first.shape} and {second.shape}")
    return mean_interval(first - second)


def comparison_rows(runs: pa.Table, *, reference: str | None = None) -> list[dict[str, Any]]:
    """One row per label, in order of first appearance, from a table with the schema `schemas.RUNS`.

    Args:
        runs: one row per run.
        reference: label that every other one is compared with, seed by seed; None for the first label.

    Returns:
        Per label: algorithm, follows and oracle as in the table; seeds (runs with a final accuracy), failed
        (runs without); final_accuracy, auc and time_to_target as {mean, low, high}; difference (final accuracy
        minus the reference's at the same seed, with `pairs`; None for the reference); censored (runs that never
        reached the target: **left out of time_to_target**, whose mean is therefore optimistic when it is not 0);
        the means client_flops, server_flops, client_cpu_seconds, server_cpu_seconds, wall_seconds. Numbers that
        do not exist are None.

    Raises:
        ValueError: no run carries the label `reference`.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs.to_pylist():
        groups.setdefault(run["label"], []).append(run)
    if not groups:
        return []
    if reference is None:
        reference = next(iter(groups))
    if reference not in groups:
        raise ValueError(f"reference {reference!r} is not among the labels {list(groups)}")
    base = _by_seed(groups[reference])
    return [
        _row(label, group)
        | {"difference": None if label == reference else _difference(_by_seed(group), base)}
        for label, group in groups.items()
    ]


def _row(label: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    done = [run for run in runs if _present(run["final_accuracy"])]
    return {
        "label": label,
        "algorithm": runs[0]["algorithm"],
        "follows": runs[0]["follows"],
        "oracle": runs[0]["oracle"],
        "seeds": len(done),
        "failed": len(runs) - len(done),
        "final_accuracy": _interval(_column(done, "final_accuracy")),
        "auc": _interval(_column(done, "auc")),
        "time_to_target": _interval(_column(done, "time_to_target")),
        "censored": sum(run["censored"] is True for run in done),
        "client_flops": _mean(_column(done, "client_flops")),
        "server_flops": _mean(_column(done, "server_flops")),
        "client_cpu_seconds": _mean(_column(done, "client_cpu_seconds")),
        "server_cpu_seconds": _mean(_column(done, "server_cpu_seconds")),
        "wall_seconds": _mean(_column(done, "wall_seconds")),
    }


def _difference(runs: Mapping[int, float], base: Mapping[int, float]) -> dict[str, float | int | None]:
    seeds = sorted(runs.keys() & base.keys())
    interval = paired_difference([runs[seed] for seed in seeds], [base[seed] for seed in seeds])
    return {**_named(interval), "pairs": len(seeds)}


def _by_seed(runs: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    return {run["seed"]: run["final_accuracy"] for run in runs if _present(run["final_accuracy"])}


def _column(runs: Sequence[Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    return np.array([run[name] for run in runs if _present(run[name])], np.float64)


def _present(value: float | None) -> bool:
    return value is not None and not np.isnan(value)


def _interval(values: NDArray[np.float64]) -> dict[str, float | None]:
    return _named(mean_interval(values))


def _named(interval: Interval) -> dict[str, float | None]:
    return dict(zip(("mean", "low", "high"), (v if _present(v) else None for v in interval), strict=True))


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if values.size else None

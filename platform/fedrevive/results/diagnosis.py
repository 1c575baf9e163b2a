"""The three ways in which FedRevive fails (the paper's failure modes), looked for in a run's arrivals table.

Thresholds are ours: far enough from what healthy runs show (mean 1 - beta of about 0.5, norms of the two deltas within
a factor of three, proxies that correlate at 0.6 with the true histograms) to be a finding rather than noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

LARGE_BETA = 0.9
LEAST_KEPT = 0.25
"""Mean 1 - beta below which raw updates count as suppressed."""
MOST_LARGE = 0.5
"""Share of updates with a beta above LARGE_BETA, likewise."""
LEAST_RATIO = 0.05
"""Median ratio of the norms of distilled and client delta below which distillation counts as idle."""
MOST_SKIPPED = 0.5
"""Share of stale updates without a distilled delta, likewise."""
LEAST_ENTROPY = 0.2
"""Entropy of the class proportions as a share of ln(classes) below which proxies count as collapsed."""
LEAST_CORRELATION = 0.3
"""Correlation with the true histograms, likewise."""

LESS_BETA = (
    "let beta grow later: a larger beta.half_staleness or horizon (auto follows K/B), "
    "beta.family=running_quantile, or a constant of at most 0.5; fewer clients at once (server.concurrency) "
    "make updates fresher"
)
MORE_DISTILLATION = (
    "raise distill_lr or distill_steps; if many stale updates had no distilled delta, look at pool_size "
    "(freeze_versions, generate_every_versions) and at loss_guard; a distill_loss near 0 means that the pool's "
    "images no longer tell teachers and student apart: generate more often or raise weights.adversarial"
)
BETTER_PROXIES = (
    "set probe_floor=0.05, try probe_temperature 0.5, 1 and 2 and more probe_samples; labels=uniform and "
    "class_weights=false do without proxies, proportions=oracle shows what they cost, diagnostics=true measures "
    "their correlation with the true histograms"
)

Verdict = Literal["present", "absent", "not measured"]
Column = NDArray[np.float64]


@dataclass(frozen=True)
class Signature:
    """One failure mode and what the run says about it."""

    name: str
    verdict: Verdict
    numbers: dict[str, float | None]
    """Measurements behind the verdict; None where the run has none."""
    advice: str
    """What to change, or why nothing was measured; empty when the failure is absent."""


def diagnose(arrivals: pa.Table, classes: int) -> tuple[Signature, ...]:
    """Look for the failure signatures in `arrivals` (schema `schemas.ARRIVALS`) of a task with so many classes.

    Everything is taken from the first blended or distilled arrival on; before it, warm-up gates decide.
    """
    beta, distilled = _column(arrivals, "beta"), _column(arrivals, "distilled_delta_norm")
    begun = np.flatnonzero((beta > 0) | (distilled >= 0))
    if len(begun) == 0:
        reason = "no update was blended: the algorithm has no beta, or the run ended before warmup_versions"
        names = ("raw_updates_suppressed", "distilled_delta_vanishes", "skewed_proxies")
        return tuple(Signature(name, "not measured", {}, reason) for name in names)
    later = arrivals.slice(int(begun[0]))
    return _suppressed(later), _vanishing(later), _skewed(later, classes)


def _suppressed(arrivals: pa.Table) -> Signature:
    """Raw updates suppressed: beta is so large that clients hardly move the server."""
    beta = _present(arrivals, "beta")
    kept = _mean(1.0 - beta)
    large = _mean(beta > LARGE_BETA)
    numbers = {
        "mean_kept": kept,
        "share_beta_above_0.9": large,
        "mean_staleness": _mean(_present(arrivals, "staleness")),
    }
    if kept is None or large is None:
        return Signature("raw_updates_suppressed", "not measured", numbers, "this run blends without a beta")
    found = kept < LEAST_KEPT or large > MOST_LARGE
    return _judged(
        "raw_updates_suppressed",
        found,
        numbers,
        LESS_BETA,
    )


def _vanishing(arrivals: pa.Table) -> Signature:
    """Distilled delta near zero: what is put in place of stale updates moves nothing."""
    distilled, client = _column(arrivals, "distilled_delta_norm"), _column(arrivals, "client_delta_norm")
    beta, staleness = _column(arrivals, "beta"), _column(arrivals, "staleness")
    usable = np.isfinite(distilled) & (client > 0)
    ratio = float(np.median(distilled[usable] / client[usable])) if usable.any() else None
    numbers = {
        "median_norm_ratio": ratio,
        "share_of_stale_updates_without": _mean((beta == 0)[(staleness > 0) & np.isfinite(beta)]),
        "mean_cosine": _mean(_present(arrivals, "delta_cosine")),
        "mean_distill_loss": _mean(_present(arrivals, "distill_loss")),
    }
    if ratio is None:
        return Signature("distilled_delta_vanishes", "not measured", numbers, "this run distils nothing")
    found = ratio < LEAST_RATIO or (numbers["share_of_stale_updates_without"] or 0.0) > MOST_SKIPPED
    return _judged(
        "distilled_delta_vanishes",
        found,
        numbers,
        MORE_DISTILLATION,
    )


def _skewed(arrivals: pa.Table, classes: int) -> Signature:
    """Skewed proxies: the probed class proportions have collapsed or do not follow the clients' data."""
    entropy = _mean(_present(arrivals, "proportion_entropy"))
    correlation = _mean(_present(arrivals, "proportion_correlation"))
    share = None if entropy is None else entropy / math.log(classes)
    numbers = {
        "mean_entropy": entropy,
        "share_of_largest_entropy": share,
        "mean_correlation": correlation,
        "mean_teacher_agreement": _mean(_present(arrivals, "teacher_agreement")),
        "mean_ensemble_accuracy": _mean(_present(arrivals, "ensemble_accuracy")),
    }
    if share is None:
        return Signature("skewed_proxies", "not measured", numbers, "this run uses no class proportions")
    found = share < LEAST_ENTROPY or (correlation is not None and correlation < LEAST_CORRELATION)
    return _judged(
        "skewed_proxies",
        found,
        numbers,
        BETTER_PROXIES,
    )


def _judged(name: str, found: bool, numbers: dict[str, float | None], advice: str) -> Signature:
    return Signature(name, "present" if found else "absent", numbers, advice if found else "")


def _column(arrivals: pa.Table, name: str) -> Column:
    """A column as doubles, null as NaN."""
    return np.asarray(arrivals.column(name).to_numpy(zero_copy_only=False), np.float64)


def _present(arrivals: pa.Table, name: str) -> Column:
    values = _column(arrivals, name)
    return values[np.isfinite(values)]


def _mean(values: Column | NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None

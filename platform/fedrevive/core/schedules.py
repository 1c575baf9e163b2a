"""Functions of the staleness tau (in server versions), and the versions at which FedRevive's phases begin.

beta(tau), the share of the distilled delta, and s(tau), the weight FedAsync and FedBuff give to an update,
are different things: the first replaces part of an update, the second only shrinks it. Nothing here needs
torch, so a run can be planned without it.

Every beta is a share in [0, 1] that never falls as tau grows; all but `constant` spare fresh updates, beta(0) = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedrevive.settings.fedrevive import FedReviveSettings
from fedrevive.settings.schedules import (
    AutoVersions,
    ConstantWeight,
    PolynomialWeight,
    StalenessWeightSettings,
)

BetaSchedule = Callable[[int], float]
StalenessWeight = Callable[[int], float]

SHORTEST_HALF = 0.5
"""Smallest half_staleness an adaptive family takes, in versions: beta(1) = 1, for servers where nothing is stale."""
LARGEST_EXPONENT = 700.0
"""exp of it is still a double."""


def one_minus_cosine(*, half_staleness: float) -> BetaSchedule:
    """beta = (1 - cos(pi*tau / (2*half_staleness)))/2, and 1 beyond 2*half_staleness (the paper's choice).

    beta(0) = 0 exactly, beta(half_staleness) = 0.5.
    """

    def beta(staleness: int) -> float:
        if staleness >= 2 * half_staleness:
            return 1.0
        return 0.5 * (1.0 - math.cos(math.pi * staleness / (2 * half_staleness)))

    return beta


def exponential(*, rate: float) -> BetaSchedule:
    """beta = 1 - exp(-rate*tau); rate per version, > 0 (considered in the paper)."""
    return lambda staleness: -math.expm1(-rate * staleness)


def linear(*, slope: float) -> BetaSchedule:
    """beta = slope*tau, at most 1; slope per version, > 0 (considered in the paper)."""
    return lambda staleness: min(1.0, slope * staleness)


def stepwise(*, horizon: float | None = None, thresholds: Sequence[float] | None = None) -> BetaSchedule:
    """beta = 0.25 times the number of thresholds that tau has reached (considered in the paper).

    Args:
        horizon: last threshold in versions, > 0; the others are its quarters.
        thresholds: four of them, increasing and > 0, in place of `horizon`.

    Raises:
        ValueError: not exactly one of the two is given, or thresholds are out of order.
    """
    if (horizon is None) == (thresholds is None):
        raise ValueError("stepwise takes a horizon or four thresholds, and not both")
    steps = (
        tuple(thresholds or ())
        if horizon is None
        else tuple(quarter * horizon / 4 for quarter in (1, 2, 3, 4))
    )
    if len(steps) != 4 or steps[0] <= 0 or sorted(set(steps)) != list(steps):
        raise ValueError(f"thresholds {list(steps)} are not four increasing numbers > 0")
    return lambda staleness: 0.25 * sum(staleness >= step for step in steps)


def polynomial(*, exponent: float, horizon: float) -> BetaSchedule:
    """beta = (tau/horizon)^exponent, at most 1; exponent > 0, horizon in versions, > 0 (ours)."""
    return lambda staleness: 1.0 if staleness >= horizon else float((staleness / horizon) ** exponent)


def sigmoid(*, midpoint: float, slope: float) -> BetaSchedule:
    """beta = (sigma(tau) - sigma(0)) / (1 - sigma(0)) with sigma(tau) = 1/(1 + exp(-slope*(tau - midpoint))) (ours).

    Written so that nothing cancels: beta(0) = 0 exactly. midpoint in versions, slope per version, both > 0.
    """

    def beta(staleness: int) -> float:
        exponent = min(slope * (midpoint - staleness), LARGEST_EXPONENT)
        return -math.expm1(-slope * staleness) / (1.0 + math.exp(exponent))

    return beta


def constant(*, value: float) -> BetaSchedule:
    """beta = value at every staleness, 0 included; in [0, 1] (the paper's ablation)."""
    return lambda staleness: value


def running_quantile(*, quantile: float, observed: Sequence[int]) -> BetaSchedule:
    """one_minus_cosine that is 0.5 at a quantile of the `observed` staleness (self-adaptive; ours).

    Args:
        quantile: in (0, 1), by linear interpolation between order statistics.
        observed: at least one staleness.
    """
    ordered = sorted(observed)
    place = quantile * (len(ordered) - 1)
    below = ordered[math.floor(place)]
    half = below + (place - math.floor(place)) * (ordered[math.ceil(place)] - below)
    return one_minus_cosine(half_staleness=max(SHORTEST_HALF, half))


def variance_driven(*, deviations: float, observed: Sequence[int]) -> BetaSchedule:
    """one_minus_cosine that reaches 1 at mean + deviations*sd of the `observed` staleness (self-adaptive; ours).

    Args:
        deviations: >= 0; the standard deviation is that of the sample itself (divided by n).
        observed: at least one staleness.
    """
    count, total = len(observed), sum(observed)
    spread = count * sum(value * value for value in observed) - total * total  # exact: integers
    horizon = (total + deviations * math.sqrt(spread)) / count
    return one_minus_cosine(half_staleness=max(SHORTEST_HALF, horizon / 2))


def constant_weight() -> StalenessWeight:
    """s(tau) = 1."""
    return lambda staleness: 1.0


def polynomial_weight(*, exponent: float) -> StalenessWeight:
    """s(tau) = (1 + tau)^-exponent (FedAsync)."""
    return lambda staleness: float((1.0 + staleness) ** -exponent)


def hinge_weight(*, slope: float, grace: float) -> StalenessWeight:
    """s(tau) = 1 for tau <= grace, else 1/(slope*(tau - grace) + 1) (FedAsync)."""
    return lambda staleness: 1.0 if staleness <= grace else 1.0 / (slope * (staleness - grace) + 1.0)


def staleness_weight(settings: StalenessWeightSettings) -> StalenessWeight:
    """s(tau) as configured."""
    if isinstance(settings, ConstantWeight):
        return constant_weight()
    if isinstance(settings, PolynomialWeight):
        return polynomial_weight(exponent=settings.exponent)
    return hinge_weight(slope=settings.slope, grace=settings.grace)


def warmup_versions(setting: AutoVersions, *, concurrency: int) -> int:
    """Last version that still takes updates as they are; auto = K (published example: 100 at K = 100)."""
    return concurrency if setting == "auto" else setting


@dataclass(frozen=True)
class Gates:
    """Server versions at which FedRevive's phases begin (algorithm.md §1.7; not in the paper, disclosed
    here).

    t < freeze: raw updates. freeze <= t <= warmup: synthesis only. t > warmup: distillation and blending. The
    adversarial term joins at t >= warmup: synthesis compares with >=, distillation with > (published
    example).
    """

    freeze: int
    warmup: int
    generate_every: int
    updates_per_version: int
    stepped: bool
    """distill_from=stepped: beta plays no part, and one distillation follows a version's last update."""

    def revives(self, beta: float) -> bool:
        """Whether an update calls for anything at all; a fresh one is taken as it is."""
        return self.stepped or beta > 0

    def asks_teachers(self, version: int) -> bool:
        """Whether anything may be asked of the teachers; until then nothing depends on how many are kept."""
        return version >= self.freeze or self.distils(version)

    def completes(self, pending: int) -> bool:
        """Whether an update may be distilled at, given how many the version already has."""
        return not self.stepped or pending + 1 == self.updates_per_version

    def synthesises(self, version: int, generated_version: int) -> bool:
        """Whether a generator round is due: at most one per version, however many updates a version takes."""
        return version >= self.freeze and version % self.generate_every == 0 and version != generated_version

    def adversarial(self, version: int) -> bool:
        """Whether synthesis also seeks disagreement with the student."""
        return version >= self.warmup

    def distils(self, version: int) -> bool:
        """Whether updates are blended with a distilled delta."""
        return version > self.warmup


def gates(settings: FedReviveSettings, *, concurrency: int, updates_per_version: int) -> Gates:
    """Gates as configured; `auto` = K/2 (rounded down) and K, the published 50 and 100 at K = 100."""
    return Gates(
        freeze=concurrency // 2 if settings.freeze_versions == "auto" else settings.freeze_versions,
        warmup=warmup_versions(settings.warmup_versions, concurrency=concurrency),
        generate_every=settings.generate_every_versions,
        updates_per_version=updates_per_version,
        stepped=settings.distill_from == "stepped",
    )

"""Functions of the staleness tau (in server versions), and the versions at which FedRevive's phases begin.

beta(tau), the share of the distilled delta, and s(tau), the weight FedAsync and FedBuff give to an update,
are different things: the first replaces part of an update, the second only shrinks it. Nothing here needs
torch, so a run can be planned without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from fedrevive.settings.algorithm import AutoVersions, FedReviveSettings
from fedrevive.settings.schedules import (
    BetaSettings,
    ConstantBeta,
    ConstantWeight,
    PolynomialWeight,
    StalenessWeightSettings,
)

BetaSchedule = Callable[[int], float]
StalenessWeight = Callable[[int], float]


def one_minus_cosine(*, half_staleness: float) -> BetaSchedule:
    """beta = (1 - cos(pi*tau / (2*half_staleness)))/2, and 1 beyond 2*half_staleness (the paper's choice).

    beta(0) = 0 exactly, beta(half_staleness) = 0.5.
    """

    def beta(staleness: int) -> float:
        if staleness >= 2 * half_staleness:
            return 1.0
        return 0.5 * (1.0 - math.cos(math.pi * staleness / (2 * half_staleness)))

    return beta


def constant(*, value: float) -> BetaSchedule:
    """beta = value at every staleness, 0 included (the paper's ablation)."""
    return lambda staleness: value


def constant_weight() -> StalenessWeight:
    """s(tau) = 1."""
    return lambda staleness: 1.0


def polynomial_weight(*, exponent: float) -> StalenessWeight:
    """s(tau) = (1 + tau)^-exponent (FedAsync)."""
    return lambda staleness: float((1.0 + staleness) ** -exponent)


def hinge_weight(*, slope: float, grace: float) -> StalenessWeight:
    """s(tau) = 1 for tau <= grace, else 1/(slope*(tau - grace) + 1) (FedAsync)."""
    return lambda staleness: 1.0 if staleness <= grace else 1.0 / (slope * (staleness - grace) + 1.0)


def beta_schedule(settings: BetaSettings, *, concurrency: int, updates_per_version: int) -> BetaSchedule:
    """beta(tau) as configured; `auto` takes half_staleness = 0.75*K/B (ours; mean staleness is (K - 1)/B)."""
    if isinstance(settings, ConstantBeta):
        return constant(value=settings.value)
    if settings.half_staleness == "auto":
        return one_minus_cosine(half_staleness=0.75 * concurrency / updates_per_version)
    return one_minus_cosine(half_staleness=settings.half_staleness)


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

    def synthesises(self, version: int, generated_version: int) -> bool:
        """Whether a generator round is due: at most one per version, however many updates a version takes."""
        return version >= self.freeze and version % self.generate_every == 0 and version != generated_version

    def adversarial(self, version: int) -> bool:
        """Whether synthesis also seeks disagreement with the student."""
        return version >= self.warmup

    def distils(self, version: int) -> bool:
        """Whether updates are blended with a distilled delta."""
        return version > self.warmup


def gates(settings: FedReviveSettings, *, concurrency: int) -> Gates:
    """Gates as configured; `auto` = K/2 (rounded down) and K, the published 50 and 100 at K = 100."""
    return Gates(
        freeze=concurrency // 2 if settings.freeze_versions == "auto" else settings.freeze_versions,
        warmup=warmup_versions(settings.warmup_versions, concurrency=concurrency),
        generate_every=settings.generate_every_versions,
    )

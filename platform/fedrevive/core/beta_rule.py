"""beta(tau) as configured, and the memory of those families that follow the staleness they observe. No torch.

`auto` scales with the mean staleness, (K - 1)/B: half points are 0.75*K/B, horizons 1.5*K/B, rates 0.5*B/K (ours; at
K = 100, B = 1 these are the published numbers).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedrevive.core.schedules import (
    BetaSchedule,
    constant,
    exponential,
    linear,
    one_minus_cosine,
    polynomial,
    running_quantile,
    sigmoid,
    stepwise,
    variance_driven,
)
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.algorithm import AflDwSettings
from fedrevive.settings.fedrevive import FedReviveSettings
from fedrevive.settings.peers import DdFedReviveSettings
from fedrevive.settings.schedules import (
    BetaSettings,
    ConstantBeta,
    ExponentialBeta,
    LinearBeta,
    OneMinusCosineBeta,
    PolynomialBeta,
    RunningQuantileBeta,
    SigmoidBeta,
    StepwiseBeta,
    VarianceDrivenBeta,
)

Observed = tuple[int, ...]
"""Staleness of earlier uploads, oldest first; () for a family that looks at none."""
REMEMBERED_GENERATIONS = 5
"""`auto` remembers so many times K uploads: every slot has then reported about so often. Ours."""


@dataclass(frozen=True)
class BetaRule:
    """A beta(tau) that may follow the staleness observed so far, which the server keeps in its state."""

    schedule: Callable[[Observed], BetaSchedule]
    """beta(tau), given the staleness of earlier uploads."""
    window: int = 0
    """Uploads that are remembered; 0 for the families that do not adapt."""

    def evaluate(self, observed: Observed, staleness: int) -> tuple[float, Observed]:
        """beta of one upload, judged by the uploads before it, and what is remembered afterwards."""
        beta = self.schedule(observed)(staleness)
        return beta, self.remembered((*observed, staleness))

    def remembered(self, staleness: Sequence[int]) -> Observed:
        """What is kept of the staleness of all uploads so far, oldest first."""
        return tuple(staleness[-self.window :]) if self.window else ()


def beta_rule(settings: BetaSettings, *, concurrency: int, updates_per_version: int) -> BetaRule:
    """The rule for `algorithm.beta` at the given K and B."""
    generation = concurrency / updates_per_version  # versions in which every slot reports once
    if not isinstance(settings, RunningQuantileBeta | VarianceDrivenBeta):
        fixed = _fixed(settings, generation)
        return BetaRule(lambda _: fixed)
    window = REMEMBERED_GENERATIONS * concurrency if settings.window == "auto" else settings.window
    enough = min(concurrency, window)  # the first K uploads are the start-up transient
    prior = one_minus_cosine(half_staleness=0.75 * generation)

    def follow(observed: Observed) -> BetaSchedule:
        if len(observed) < enough:
            return prior
        if isinstance(settings, RunningQuantileBeta):
            return running_quantile(quantile=settings.quantile, observed=observed)
        return variance_driven(deviations=settings.deviations, observed=observed)

    return BetaRule(follow, window)


def configured_beta_rule(config: ExperimentConfig) -> BetaRule | None:
    """The algorithm's beta at the experiment's K and B; None for an algorithm without."""
    if not isinstance(config.algorithm, FedReviveSettings | AflDwSettings | DdFedReviveSettings):
        return None
    return beta_rule(
        config.algorithm.beta,
        concurrency=config.server.concurrency,
        updates_per_version=config.updates_per_version,
    )


def _fixed(
    settings: OneMinusCosineBeta
    | ExponentialBeta
    | LinearBeta
    | StepwiseBeta
    | PolynomialBeta
    | SigmoidBeta
    | ConstantBeta,
    generation: float,
) -> BetaSchedule:
    match settings:
        case OneMinusCosineBeta():
            return one_minus_cosine(half_staleness=_or_auto(settings.half_staleness, 0.75 * generation))
        case ExponentialBeta():
            return exponential(rate=_or_auto(settings.rate, 0.5 / generation))
        case LinearBeta():
            return linear(slope=_or_auto(settings.slope, 0.5 / generation))
        case StepwiseBeta(thresholds=None):
            return stepwise(horizon=_or_auto(settings.horizon, 1.5 * generation))
        case StepwiseBeta():
            return stepwise(thresholds=settings.thresholds)
        case PolynomialBeta():
            horizon = _or_auto(settings.horizon, 1.5 * generation)
            return polynomial(exponent=settings.exponent, horizon=horizon)
        case SigmoidBeta():
            midpoint = _or_auto(settings.midpoint, 0.75 * generation)
            return sigmoid(midpoint=midpoint, slope=_or_auto(settings.slope, math.pi / midpoint))
        case ConstantBeta():
            return constant(value=settings.value)


def _or_auto(setting: float | str, auto: float) -> float:
    return auto if isinstance(setting, str) else setting

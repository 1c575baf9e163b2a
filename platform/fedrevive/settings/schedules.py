"""`algorithm.beta` and `algorithm.staleness_weight`: functions of the staleness tau (in server versions)."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedrevive.settings.section import Section

AutoVersions = Literal["auto"] | Annotated[int, Field(ge=0, le=1_000_000_000)]
"""A server version at which a phase begins; `auto` follows K."""
AutoStaleness = Literal["auto"] | Annotated[float, Field(gt=0, le=1e9)]
"""In versions, > 0; `auto` scales with K/B, because mean staleness is (K - 1)/B."""
AutoRate = Literal["auto"] | Annotated[float, Field(gt=0, le=1e6)]
"""Per version, > 0; `auto` scales with B/K."""
Thresholds = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1e9)], ...], Field(strict=False, min_length=4, max_length=4)
]


class OneMinusCosineBeta(Section):
    """beta = 1 - (1 + cos(pi*tau / (2*half_staleness)))/2, and 1 beyond 2*half_staleness (the paper's choice)."""

    family: Literal["one_minus_cosine"] = "one_minus_cosine"
    """Discriminator."""
    half_staleness: AutoStaleness = "auto"
    """Staleness at which beta = 0.5 (the paper's s_max), in versions, > 0; auto = 0.75*K/B. Ours, published example: 75 at K = 100."""


class ExponentialBeta(Section):
    """beta = 1 - exp(-rate*tau)."""

    family: Literal["exponential"] = "exponential"
    """Discriminator."""
    rate: AutoRate = "auto"
    """lambda, per version, > 0; auto = 0.5*B/K. Published suggestion: 0.005 at K = 100; the scaling is ours."""


class LinearBeta(Section):
    """beta = slope*tau, at most 1."""

    family: Literal["linear"] = "linear"
    """Discriminator."""
    slope: AutoRate = "auto"
    """gamma, per version, > 0; auto = 0.5*B/K. Published suggestion: 0.005 at K = 100; the scaling is ours."""


class StepwiseBeta(Section):
    """beta = 0, 0.25, 0.5, 0.75, 1 below, from the first, the second, the third and the fourth threshold on."""

    family: Literal["stepwise"] = "stepwise"
    """Discriminator."""
    horizon: AutoStaleness = "auto"
    """Staleness from which beta = 1, in versions, > 0; the thresholds are its quarters; auto = 1.5*K/B. Ours: the published suggestion."""
    thresholds: Thresholds | None = None
    """Four increasing thresholds in versions, > 0, in place of the quarters; null = quarters of the horizon. Ours."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        given = self.thresholds
        if given is None:
            return self
        if self.horizon != "auto":
            raise ValueError(f"horizon={self.horizon} and thresholds exclude each other; give one of them")
        if any(low >= high for low, high in pairwise(given)):
            raise ValueError(f"thresholds={list(given)} are out of order; they must increase")
        return self


class PolynomialBeta(Section):
    """beta = (tau/horizon)^exponent, at most 1."""

    family: Literal["polynomial"] = "polynomial"
    """Discriminator."""
    exponent: float = Field(2.0, gt=0, le=100)
    """> 0; above 1 spares fresh updates, as one_minus_cosine does. Ours."""
    horizon: AutoStaleness = "auto"
    """Staleness from which beta = 1, in versions, > 0; auto = 1.5*K/B. Ours."""


class SigmoidBeta(Section):
    """A logistic curve in tau, shifted and rescaled so that beta(0) = 0."""

    family: Literal["sigmoid"] = "sigmoid"
    """Discriminator."""
    midpoint: AutoStaleness = "auto"
    """Staleness of steepest ascent, in versions, > 0; auto = 0.75*K/B. Ours."""
    slope: AutoRate = "auto"
    """Steepness per version, > 0; auto = pi/midpoint, as steep there as one_minus_cosine. Ours."""


class RunningQuantileBeta(Section):
    """one_minus_cosine whose half_staleness is a quantile of the staleness observed lately (self-adaptive; ours)."""

    family: Literal["running_quantile"] = "running_quantile"
    """Discriminator."""
    quantile: float = Field(0.5, gt=0, lt=1)
    """Share of observed updates that are no staler than the half point, in (0, 1). Ours: the published half point is near the median."""
    window: Literal["auto"] | Annotated[int, Field(ge=2, le=100_000)] = "auto"
    """Uploads remembered; auto = 5*K. half_staleness stays at 0.75*K/B until min(K, window) were seen. Ours."""


class VarianceDrivenBeta(Section):
    """one_minus_cosine that reaches 1 at mean + deviations*sd of the staleness observed lately (self-adaptive; ours)."""

    family: Literal["variance_driven"] = "variance_driven"
    """Discriminator."""
    deviations: float = Field(1.0, ge=0, le=100)
    """Standard deviations above the mean, >= 0. Ours: at K = 100 it gives a horizon of 152 to 182, the published one is 150."""
    window: Literal["auto"] | Annotated[int, Field(ge=2, le=100_000)] = "auto"
    """Uploads remembered; auto = 5*K. The horizon stays at 1.5*K/B until min(K, window) were seen. Ours."""


class ConstantBeta(Section):
    """beta = value at every staleness (the paper's ablation)."""

    family: Literal["constant"] = "constant"
    """Discriminator."""
    value: float = Field(0.5, ge=0, le=1)
    """Share of the distilled delta, in [0, 1]. Paper: 0.5, 0.75 and 1.0."""


BetaSettings = Annotated[
    OneMinusCosineBeta
    | ExponentialBeta
    | LinearBeta
    | StepwiseBeta
    | PolynomialBeta
    | SigmoidBeta
    | RunningQuantileBeta
    | VarianceDrivenBeta
    | ConstantBeta,
    Field(discriminator="family"),
]


class ConstantWeight(Section):
    """s(tau) = 1."""

    family: Literal["constant"] = "constant"
    """Discriminator."""


class PolynomialWeight(Section):
    """s(tau) = (1 + tau)^-exponent (FedAsync); exponent 0.5 is FedBuff's 1/sqrt(1 + tau)."""

    family: Literal["polynomial"] = "polynomial"
    """Discriminator."""
    exponent: float = Field(0.5, ge=0, le=10)
    """a, >= 0. Published example (FLGo) and FedBuff's paper: 0.5."""


class HingeWeight(Section):
    """s(tau) = 1 for tau <= grace, else 1/(slope*(tau - grace) + 1) (FedAsync)."""

    family: Literal["hinge"] = "hinge"
    """Discriminator."""
    slope: float = Field(10.0, gt=0, le=1e6)
    """a, > 0. Published example (Plato): 10."""
    grace: float = Field(4.0, ge=0, le=1e9)
    """b, in versions, >= 0. Published example (Plato): 4."""


StalenessWeightSettings = Annotated[
    ConstantWeight | PolynomialWeight | HingeWeight, Field(discriminator="family")
]

"""`algorithm.beta` and `algorithm.staleness_weight`: functions of the staleness tau (in server versions)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fedrevive.settings.section import Section


class OneMinusCosineBeta(Section):
    """beta = 1 - (1 + cos(pi*tau / (2*half_staleness)))/2, and 1 beyond 2*half_staleness (the paper's choice)."""

    family: Literal["one_minus_cosine"] = "one_minus_cosine"
    """Discriminator."""
    half_staleness: Literal["auto"] | Annotated[float, Field(gt=0, le=1e9)] = "auto"
    """Staleness at which beta = 0.5 (the paper's s_max), in versions, > 0; auto = 0.75*K/B. Ours, published example: 75 at K = 100."""


class ConstantBeta(Section):
    """beta = value at every staleness (the paper's ablation)."""

    family: Literal["constant"] = "constant"
    """Discriminator."""
    value: float = Field(0.5, ge=0, le=1)
    """Share of the distilled delta, in [0, 1]. Paper: 0.5, 0.75 and 1.0."""


BetaSettings = Annotated[OneMinusCosineBeta | ConstantBeta, Field(discriminator="family")]


class ConstantWeight(Section):
    """s(tau) = 1."""

    family: Literal["constant"] = "constant"
    """Discriminator."""


class PolynomialWeight(Section):
    """s(tau) = (1 + tau)^-exponent (FedAsync); exponent 0.5 is FedBuff's 1/sqrt(1 + tau)."""

    family: Literal["polynomial"] = "polynomial"
    """Discriminator."""
    exponent: float = Field(0.5, ge=0, le=10)
    """a, >= 0. FedAsync and FedBuff: 0.5."""


class HingeWeight(Section):
    """s(tau) = 1 for tau <= grace, else 1/(slope*(tau - grace) + 1) (FedAsync)."""

    family: Literal["hinge"] = "hinge"
    """Discriminator."""
    slope: float = Field(10.0, gt=0, le=1e6)
    """a, > 0. FedAsync: 10."""
    grace: float = Field(4.0, ge=0, le=1e9)
    """b, in versions, >= 0. FedAsync: 4."""


StalenessWeightSettings = Annotated[
    ConstantWeight | PolynomialWeight | HingeWeight, Field(discriminator="family")
]

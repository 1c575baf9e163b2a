"""`algorithm`: how the server turns arriving client models into the next server model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fedrevive.settings.fedrevive import FedReviveSettings
from fedrevive.settings.peers import (
    AsyncFedEdSettings,
    Ca2flSettings,
    DdFedReviveSettings,
    FadasSettings,
    FedFaSettings,
    PortSettings,
)
from fedrevive.settings.schedules import (
    AutoVersions,
    BetaSettings,
    ConstantWeight,
    OneMinusCosineBeta,
    PolynomialWeight,
    StalenessWeightSettings,
)
from fedrevive.settings.section import Section


class FedAvgSettings(Section):
    """Synchronous FedAvg: a cohort of `server.concurrency` clients, the round lasts as long as its slowest."""

    name: Literal["fedavg"] = "fedavg"
    """Discriminator."""


class FedAsyncSettings(Section):
    """FedAsync: x <- (1 - a)x + a*x_i with a = server.lr * s(tau)."""

    name: Literal["fedasync"] = "fedasync"
    """Discriminator."""
    staleness_weight: StalenessWeightSettings = Field(default_factory=PolynomialWeight)
    """s(tau). FedAsync's paper: constant, polynomial or hinge."""
    proximal: float = Field(0.0, ge=0, le=1e3)
    """rho of the client's proximal term rho/2*|x - base|^2, >= 0. Ours: 0 (FLGo: 0.005), so that local work equals the peers'."""


class FedBuffSettings(Section):
    """FedBuff: x <- x + server.lr * mean over B updates of s(tau)*delta."""

    name: Literal["fedbuff"] = "fedbuff"
    """Discriminator."""
    staleness_weight: StalenessWeightSettings = Field(default_factory=ConstantWeight)
    """s(tau). Published example: constant; FedBuff's paper: polynomial 0.5."""


class AflDwSettings(Section):
    """AFL-DW: FedRevive with a distilled delta of zero, so stale updates are only weighted down by 1 - beta(tau)."""

    name: Literal["afl_dw"] = "afl_dw"
    """Discriminator."""
    beta: BetaSettings = Field(default_factory=OneMinusCosineBeta)
    """beta(tau): share that a stale update loses. Paper: one_minus_cosine, as in fedrevive."""
    warmup_versions: AutoVersions = "auto"
    """Updates stay unweighted up to this version; auto = K, as in fedrevive. Ours."""


AlgorithmSettings = Annotated[
    FedAvgSettings
    | FedAsyncSettings
    | FedBuffSettings
    | AflDwSettings
    | FedReviveSettings
    | DdFedReviveSettings
    | Ca2flSettings
    | FadasSettings
    | AsyncFedEdSettings
    | FedFaSettings
    | PortSettings,
    Field(discriminator="name"),
]


def is_oracle(settings: AlgorithmSettings) -> bool:
    """Whether the model depends on data that a real server could not see: a yardstick, not a competitor."""
    match settings:
        case FedReviveSettings():
            return settings.proportions == "oracle" or settings.pool == "real"
        case DdFedReviveSettings():
            return True
        case _:
            return False

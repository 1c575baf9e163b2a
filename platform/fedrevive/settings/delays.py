"""`delays`: virtual time a client needs for download, training and upload (in virtual time units)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedrevive.settings.section import PathText, Section

MAX_UNITS = 1e6
Duration = Annotated[float, Field(ge=0, le=MAX_UNITS)]
PositiveDuration = Annotated[float, Field(gt=0, le=MAX_UNITS)]


class FedReviveDefaultDelays(Section):
    """Published default: download 0.1; training Exp(client mean in {1.0, 1.3, 1.6} w.p. .25/.5/.25); upload U(m ± 0.02), client m in {.15, .25}."""

    kind: Literal["fedrevive_default"] = "fedrevive_default"
    """Discriminator."""


class FedReviveShiftedDelays(Section):
    """Published shifted schedule: download 0.02; training Exp(0.1); upload U(m ± 0.01), client m in {.05, .10}."""

    kind: Literal["fedrevive_shifted"] = "fedrevive_shifted"
    """Discriminator."""


class NoisyDelays(Section):
    """Fields of every model of our own: constant transfer times and a static client speed."""

    download: Duration = 0.0
    """Download time per job, >= 0. Ours."""
    upload: Duration = 0.0
    """Upload time per job, >= 0. Ours."""
    client_sigma: float = Field(0.0, ge=0, le=5)
    """Static client speed: training times of a client are multiplied by a log-normal factor with this sigma and mean 1, drawn once; 0 = equally fast. Ours."""


class MeanDelays(NoisyDelays):
    """A model written by its mean training time."""

    mean: PositiveDuration = 1.0
    """Mean training time, > 0. Ours."""


class ConstantDelays(MeanDelays):
    """Every job takes the mean."""

    kind: Literal["constant"] = "constant"
    """Discriminator."""


class UniformDelays(NoisyDelays):
    """Training ~ U(low, high)."""

    kind: Literal["uniform"] = "uniform"
    """Discriminator."""
    low: Duration = 0.5
    """Smallest training time, >= 0. Ours."""
    high: PositiveDuration = 1.5
    """Largest training time, >= low. Ours."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.high < self.low:
            raise ValueError(f"high={self.high} is below low={self.low}; high must be >= low")
        return self


class HalfNormalDelays(MeanDelays):
    """Training ~ |N(0, sd)| with sd = mean * sqrt(pi/2) (FLSim's family)."""

    kind: Literal["half_normal"] = "half_normal"
    """Discriminator."""


class ExponentialDelays(MeanDelays):
    """Training ~ Exp(mean)."""

    kind: Literal["exponential"] = "exponential"
    """Discriminator."""


class ShiftedExponentialDelays(MeanDelays):
    """Training ~ shift*mean + Exp((1 - shift)*mean)."""

    kind: Literal["shifted_exponential"] = "shifted_exponential"
    """Discriminator."""
    shift: float = Field(0.5, ge=0, lt=1)
    """Share of the mean that is constant, in [0, 1). Ours."""


class LogNormalDelays(MeanDelays):
    """Training log-normal with the given mean."""

    kind: Literal["lognormal"] = "lognormal"
    """Discriminator."""
    sigma: float = Field(0.6, gt=0, le=5)
    """Standard deviation of the logarithm, > 0. FedScale's family; 0.6 is its value."""


class ParetoDelays(MeanDelays):
    """Training ~ Pareto(shape) capped at cap*mean; the scale keeps the uncapped mean."""

    kind: Literal["pareto"] = "pareto"
    """Discriminator."""
    shape: float = Field(1.5, gt=1, le=100)
    """Tail exponent, > 1 (a mean must exist). Ours."""
    cap: float = Field(10.0, gt=1, le=1e6)
    """Largest value in means, > 1. Ours: with 10 the measured mean staleness reaches (K-1)/B within 100*K arrivals."""


class TwoSpeedDelays(MeanDelays):
    """Static: a share of slow clients takes slow_factor times as long; `mean` is the fast clients' time."""

    kind: Literal["two_speed"] = "two_speed"
    """Discriminator."""
    slow_share: float = Field(0.2, ge=0, le=1)
    """Probability that a client is slow, in [0, 1]. Ours."""
    slow_factor: float = Field(10.0, ge=1, le=1e4)
    """How many times longer a slow client takes, >= 1. Ours."""


class TraceDelays(Section):
    """Measured training times, bandwidths and availability of devices, from one table (docs/traces.md); every client behaves as one of its devices."""

    kind: Literal["trace"] = "trace"
    """Discriminator."""
    path: PathText = "trace.csv"
    """The table, .csv or .parquet; `fedrevive trace` makes one of each public trace. Ours."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """SHA-256 of the table's bytes, which the run's identity rests on; null = filled in when the configuration is read. Ours."""
    seconds_per_unit: float = Field(1.0, gt=0, le=1e9)
    """Seconds of the table in one virtual time unit, > 0. Ours."""
    model_megabytes: Annotated[float, Field(ge=0, le=1e6)] | None = None
    """What one transfer moves, in 10^6 bytes, >= 0; null = the network itself, 4 bytes for each parameter and buffer. Ours."""


SampledDelays = (
    FedReviveDefaultDelays
    | FedReviveShiftedDelays
    | ConstantDelays
    | UniformDelays
    | HalfNormalDelays
    | ExponentialDelays
    | ShiftedExponentialDelays
    | LogNormalDelays
    | ParetoDelays
    | TwoSpeedDelays
)
DelaySettings = Annotated[SampledDelays | TraceDelays, Field(discriminator="kind")]

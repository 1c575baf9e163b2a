"""`algorithm`: how the server turns arriving client models into the next server model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fedrevive.settings.schedules import (
    BetaSettings,
    ConstantWeight,
    OneMinusCosineBeta,
    PolynomialWeight,
    StalenessWeightSettings,
)
from fedrevive.settings.section import Section

AutoVersions = Literal["auto"] | Annotated[int, Field(ge=0, le=1_000_000_000)]


class FedAvgSettings(Section):
    """Synchronous FedAvg: a cohort of `server.concurrency` clients, the round lasts as long as its slowest."""

    name: Literal["fedavg"] = "fedavg"
    """Discriminator."""


class FedAsyncSettings(Section):
    """FedAsync: x <- (1 - a)x + a*x_i with a = server.lr * s(tau)."""

    name: Literal["fedasync"] = "fedasync"
    """Discriminator."""
    staleness_weight: StalenessWeightSettings = Field(default_factory=PolynomialWeight)
    """s(tau). FedAsync: constant, polynomial or hinge."""
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
    """beta(tau), as in fedrevive."""
    warmup_versions: AutoVersions = "auto"
    """Updates stay unweighted up to this version; auto = K, as in fedrevive. Ours."""


class SynthesisWeights(Section):
    """Weights of the generator's loss terms (algorithm.md §1.4)."""

    onehot: float = Field(1.0, ge=0, le=1e6)
    """Cross-entropy of the teachers on the intended label, >= 0. Paper: 1."""
    feature_stats: float = Field(3e-3, ge=0, le=1e6)
    """Distance to the teachers' stored feature statistics, >= 0. Published example: 3e-3 on CIFAR-10."""
    adversarial: float = Field(0.1, ge=0, le=1e6)
    """Disagreement between teachers and student, >= 0. Paper: 0.1."""


class FedReviveSettings(Section):
    """FedRevive (arXiv 2511.00655): data-free distillation of the last c client models into the current one."""

    name: Literal["fedrevive"] = "fedrevive"
    """Discriminator."""
    beta: BetaSettings = Field(default_factory=OneMinusCosineBeta)
    """beta(tau): share of the distilled delta in the mixed delta. Paper: one_minus_cosine."""
    teacher_capacity: int = Field(8, ge=1, le=1024)
    """c: client models kept as teachers. Paper: 8."""
    generate_every_versions: int = Field(10, ge=1, le=1_000_000)
    """T_gen: versions between two generator rounds. Paper: 10."""
    freeze_versions: AutoVersions = "auto"
    """Versions before which nothing is synthesised; auto = K/2. Published example: 50 at K = 100."""
    warmup_versions: AutoVersions = "auto"
    """Distillation and blending begin after this version; auto = K. Published example: 100 at K = 100."""

    probe_samples: int = Field(64, ge=1, le=65536)
    """Gaussian probes per upload for the class proportions. Published example: 64 (not in the paper)."""
    probe_temperature: float = Field(0.8, gt=0, le=100)
    """Softmax temperature of the probe, > 0. Paper: 0.8 (CIFAR-10)."""

    synthesis_steps: int = Field(2, ge=1, le=10_000)
    """K_synth: generator steps per round. Paper: 2."""
    synthesis_batch: int = Field(64, ge=2, le=65536)
    """Pseudo-samples per round. Published example: 64."""
    generator_lr: float = Field(3e-3, gt=0, le=10)
    """Adam learning rate of the generator, inner and Reptile, > 0. Published example: 3e-3 (FEMNIST 1e-2)."""
    latent_lr: float = Field(1e-3, gt=0, le=10)
    """Adam learning rate of latents and class embeddings, > 0. Published example: 1e-3."""
    latent_size: int = Field(256, ge=1, le=65536)
    """Size of z. Published example: 256."""
    generator_width: int = Field(128, ge=1, le=4096)
    """ngf: base channels of the generator. Published example: 128."""
    embedding_weight: float = Field(0.2, ge=0, le=100)
    """Weight of the class embedding added to z, >= 0. Published example: 0.2."""
    weights: SynthesisWeights = Field(default_factory=SynthesisWeights)
    """Loss weights of the synthesis."""
    pool_capacity: int = Field(16_000, ge=1, le=10_000_000)
    """Pseudo-samples kept, oldest dropped first. Published example: 16,000."""

    distill_steps: int = Field(10, ge=0, le=100_000)
    """K_KD: distillation steps per arrival; 0 = a distilled delta of zero (AFL-DW). Paper: 10."""
    distill_batch: int = Field(32, ge=2, le=65536)
    """Pseudo-samples per teacher and step. Published example: 32."""
    distill_lr: float = Field(1e-4, gt=0, le=10)
    """Adam learning rate of the student, > 0. Published example: 1e-4 on CIFAR-10."""
    distill_weight_decay: float = Field(1e-5, ge=0, le=1)
    """L2 term of the student's Adam, >= 0. Published example: 1e-5."""
    distill_temperature: float = Field(1.0, gt=0, le=100)
    """T of the KL divergence, > 0. Paper: 1."""

    augmentation: Literal["none", "crop_flip"] = "none"
    """Augmentation of pseudo-samples in synthesis and distillation; crop_flip = reflect-pad 4, random crop, horizontal flip. Published example: crop_flip on CIFAR, none on FEMNIST."""
    loss_guard: bool = True
    """Drop a loss term that is not finite or above 3x the mean of its last 20 values. Published example: on."""


AlgorithmSettings = Annotated[
    FedAvgSettings | FedAsyncSettings | FedBuffSettings | AflDwSettings | FedReviveSettings,
    Field(discriminator="name"),
]

"""`algorithm`: the published methods that FedRevive is compared with, beyond the averaging ones."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fedrevive.settings.schedules import AutoVersions, BetaSettings, ConstantBeta
from fedrevive.settings.section import Section


class Ca2flSettings(Section):
    """CA2FL: a buffer's mean, calibrated by every client's last delta; M = `server.updates_per_version` (paper: 10)."""

    name: Literal["ca2fl"] = "ca2fl"
    """Discriminator."""


class FadasSettings(Section):
    """FADAS: an AMSGrad step on a buffer's mean; eta = `server.lr`, M = `server.updates_per_version` (its authors: 5)."""

    name: Literal["fadas"] = "fadas"
    """Discriminator."""
    first_decay: float = Field(0.9, ge=0, lt=1)
    """beta_1, in [0, 1). Published example (FADAS's authors): 0.9."""
    second_decay: float = Field(0.99, ge=0, lt=1)
    """beta_2, in [0, 1). Published example (FADAS's authors): 0.99."""
    epsilon: float = Field(1e-8, gt=0, le=1)
    """Added to the root of the second moment, in (0, 1]. Published example (FADAS's authors): 1e-8."""
    bias_correction: bool = True
    """Divide the moments by 1 - beta^n after n versions, as Adam does. FADAS's authors' code: on; its paper: off."""
    delay_adaptation: Literal["none", "divided", "capped"] = "divided"
    """Step once tau_max of a buffer exceeds `delay_threshold`: divided = eta/tau_max (FADAS's authors' code), capped = min(eta, 1/tau_max) (its paper), none = eta."""
    delay_threshold: int = Field(1, ge=0, le=1_000_000_000)
    """tau_c: largest staleness in a buffer, in versions, that leaves eta as it is, >= 0. Published example (FADAS's authors): 1."""


class AsyncFedEdSettings(Section):
    """AsyncFedED: x <- x + server.lr/(gamma + damping)*delta, gamma = |x - base|/|delta|."""

    name: Literal["asyncfeded"] = "asyncfeded"
    """Discriminator."""
    damping: float = Field(1.0, gt=0, le=1e6)
    """epsilon, > 0: a fresh update counts server.lr/damping. Ours (not found in a source)."""
    local_steps_gain: float = Field(0.0, ge=0, le=1e6)
    """kappa, >= 0: a client's local steps grow by floor((target_distance - gamma)*kappa) per upload; delays do not follow. Ours: 0, so that local work equals the peers'."""
    target_distance: float = Field(3.0, ge=0, le=1e9)
    """gamma_bar, >= 0: gamma at which local steps stay. Ours (not found in a source)."""
    local_steps_range: float = Field(4.0, ge=1, le=1e6)
    """Local steps stay within client.local_steps divided and multiplied by this, >= 1. Ours."""


class FedFaSettings(Section):
    """FedFa: the server model is the mean of the last `window` client models; needs `server.lr=1`."""

    name: Literal["fedfa"] = "fedfa"
    """Discriminator."""
    window: int = Field(10, ge=1, le=65536)
    """Client models averaged, >= 1; the model stays as it is until so many have arrived. Ours (not found in a source)."""


class PortSettings(Section):
    """PORT: a buffer's weighted mean; weights fall with staleness and rise with agreement with the server's movement."""

    name: Literal["port"] = "port"
    """Discriminator."""
    similarity_factor: float = Field(1.0, ge=0, le=1e6)
    """Weight of the cosine's part, >= 0. Published example (Plato): 1."""
    staleness_factor: float = Field(3.0, gt=0, le=1e6)
    """Weight of the staleness's part, > 0. Published example (Plato): 3."""
    staleness_bound: float = Field(10.0, gt=0, le=1e9)
    """b, in versions, > 0: staleness at which its part has halved. Published example (Plato): 10."""


class DdFedReviveSettings(Section):
    """FedRevive with real images in place of a generator: an oracle that reads the server-held KD split, not a peer."""

    name: Literal["dd_fedrevive"] = "dd_fedrevive"
    """Discriminator."""
    beta: BetaSettings = Field(default_factory=ConstantBeta)
    """beta(tau): share of the distilled delta in the mixed delta. Ours, after the authors' reference settings: constant 0.5."""
    teacher_capacity: int = Field(8, ge=1, le=1024)
    """c: client models kept as teachers, 1..N. Paper (fedrevive) and the authors' reference settings: 8."""
    proportions: Literal["uniform", "oracle"] = "oracle"
    """Classes a teacher is asked about: its client's true histogram, or all alike. Ours (not found in a source)."""
    warmup_versions: AutoVersions = "auto"
    """Distillation and blending begin after this version; auto = K, as in fedrevive. Ours."""
    distill_steps: int = Field(10, ge=1, le=100_000)
    """K_KD: distillation steps per arrival. Paper (fedrevive) and the authors' reference settings: 10."""
    distill_batch: int = Field(32, ge=2, le=65536)
    """Images per teacher and step. Published example (fedrevive) and the authors' reference settings: 32."""
    distill_optimizer: Literal["adam", "sgd"] = "adam"
    """Optimiser of the student, fresh for every arrival; sgd has no momentum. Published example (fedrevive) and the authors' reference settings: adam."""
    distill_lr: float = Field(3e-4, gt=0, le=10)
    """Learning rate of the student, > 0. Ours, after the authors' reference settings: 3e-4 (1e-4 on CIFAR-100), for Adam."""
    distill_weight_decay: float = Field(1e-5, ge=0, le=1)
    """L2 term of the student's optimiser, >= 0. Published example (fedrevive): 1e-5."""
    distill_temperature: float = Field(2.0, gt=0, le=100)
    """T of the KL divergence, > 0. Ours, after the authors' reference settings: 2 (1 on CIFAR-100)."""
    augmentation: Literal["none", "crop_flip"] = "none"
    """Augmentation of the images; crop_flip = reflect-pad 4, random crop, horizontal flip. Ours (as in fedrevive)."""
    loss_guard: bool = True
    """Drop a loss that is not finite or above 3x the mean of its last 20 values. Published example (fedrevive): on."""

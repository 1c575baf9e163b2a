"""`algorithm` with name fedrevive: the method's ingredients, and the switches that take one out to see what it does."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedrevive.settings.schedules import AutoVersions, BetaSettings, OneMinusCosineBeta
from fedrevive.settings.section import PathText, Section


class SynthesisWeights(Section):
    """Weights of the generator's loss terms (algorithm.md §1.4)."""

    onehot: float = Field(1.0, ge=0, le=1e6)
    """Cross-entropy of the teachers on the intended label, >= 0. Paper: 1."""
    feature_stats: float = Field(3e-3, ge=0, le=1e6)
    """Distance to the teachers' stored feature statistics, >= 0. Published example: 3e-3 on CIFAR-10."""
    adversarial: float = Field(0.1, ge=0, le=1e6)
    """Disagreement between teachers and student, >= 0. Paper: 0.1."""


class AdamReptile(Section):
    """Adam with lr = generator_lr on the pseudo-gradient theta - adapted (published example)."""

    kind: Literal["adam"] = "adam"
    """Discriminator."""


class ConvexReptile(Section):
    """theta <- (1 - weight)*theta + weight*adapted (the paper's text)."""

    kind: Literal["convex"] = "convex"
    """Discriminator."""
    weight: float = Field(0.4, ge=0, le=1)
    """lambda, in [0, 1]. Ours: 0.4, in the middle of what the Adam form amounts to; the paper's is unpublished."""


ReptileSettings = Annotated[AdamReptile | ConvexReptile, Field(discriminator="kind")]


class DistillationReviver(Section):
    """Data-free distillation of the teachers into the server model (the paper's method)."""

    kind: Literal["distillation"] = "distillation"
    """Discriminator."""


class TeacherMeanReviver(Section):
    """Control without distillation: distilled delta := pull*(mean of the teachers' parameters - x)."""

    kind: Literal["teacher_mean"] = "teacher_mean"
    """Discriminator."""
    pull: float = Field(0.5, ge=0, le=1)
    """How far towards the mean, in [0, 1]. Ours."""


class ServerEmaReviver(Section):
    """Control without distillation: distilled delta := pull*(moving average of the server's past models - x)."""

    kind: Literal["server_ema"] = "server_ema"
    """Discriminator."""
    pull: float = Field(0.5, ge=0, le=1)
    """How far towards the average, in [0, 1]. Ours."""
    decay: float = Field(0.99, ge=0, lt=1)
    """Weight the average keeps per version, in [0, 1); early versions are not overweighted (as Adam's correction). Ours."""


ReviverSettings = Annotated[
    DistillationReviver | TeacherMeanReviver | ServerEmaReviver, Field(discriminator="kind")
]


class FedReviveSettings(Section):
    """FedRevive (arXiv 2511.00655): data-free distillation of the last c client models into the current one."""

    name: Literal["fedrevive"] = "fedrevive"
    """Discriminator."""
    beta: BetaSettings = Field(default_factory=OneMinusCosineBeta)
    """beta(tau): share of the distilled delta in the mixed delta. Paper: one_minus_cosine."""
    reviver: ReviverSettings = Field(default_factory=DistillationReviver)
    """Where the distilled delta comes from. Paper: distillation; the other kinds are controls that read neither pool nor proportions."""
    distill_from: Literal["current", "stepped"] = "current"
    """current: blend by beta (paper); stepped: the version's raw step first, then distil the stepped model and add its whole delta, beta unused. Control, ours."""
    teachers: Literal["recent", "random_weights"] = "recent"
    """recent: the last client models (paper); random_weights: untrained networks in their place. Control, ours."""
    teacher_capacity: int = Field(8, ge=1, le=1024)
    """c: client models kept as teachers, 1..N. Paper: 8."""
    generate_every_versions: int = Field(10, ge=1, le=1_000_000)
    """T_gen: versions between two additions to the pool. Paper: 10; published curves: 1."""
    freeze_versions: AutoVersions = "auto"
    """Versions before which nothing joins the pool, >= 0; auto = K/2. Published example: 50 at K = 100; the paper names none (0)."""
    warmup_versions: AutoVersions = "auto"
    """Distillation and blending begin after this version, >= 0; auto = K. Published example: 100 at K = 100; the paper names none (0)."""

    proportions: Literal["proxy", "oracle", "uniform"] = "proxy"
    """Class proportions of the teachers: proxy = probing with noise (paper), oracle = the clients' true histograms (paper's ablation), uniform = none (ours)."""
    probe_samples: int = Field(64, ge=1, le=65536)
    """Probes per upload for the class proportions, of Gaussian noise or random tokens. Published example: 64 (not in the paper)."""
    probe_temperature: float = Field(0.8, gt=0, le=100)
    """Softmax temperature of the probe, > 0. Paper: 0.8 (CIFAR-10)."""
    probe_floor: float = Field(0.0, ge=0, le=1)
    """f in [0, 1]: probed proportions become (1 - f)*pi + f/classes. Ours: 0 = off; 0.05 helps against collapsed proxies."""
    labels: Literal["mean_proxy", "uniform"] = "mean_proxy"
    """Labels of new pool samples: the teachers' mean proportions (published example), or uniform (the paper's text)."""
    class_weights: bool = True
    """Weigh teachers by w_k(y) and draw their batches by class. Paper: true; false (all alike, batches uniform) is a control, ours."""

    pool: Literal["generator", "noise", "real"] = "generator"
    """Samples of the pool: generator (paper); noise = standard normal inputs or random tokens; real = the held-out KD samples (oracle). Controls, ours."""
    pool_capacity: int = Field(16_000, ge=1, le=10_000_000)
    """Pseudo-samples kept, oldest dropped first. Published example: 16,000."""
    synthesis_steps: int = Field(2, ge=1, le=10_000)
    """K_synth: generator steps per round. Paper: 2."""
    synthesis_batch: int = Field(64, ge=2, le=65536)
    """Samples that join the pool per round. Published example: 64."""
    generator_lr: float = Field(3e-3, gt=0, le=10)
    """Adam learning rate of the generator, inner and Reptile, > 0. Published example: 3e-3 (FEMNIST 1e-2)."""
    latent_lr: float = Field(1e-3, gt=0, le=10)
    """Adam learning rate of latents and class embeddings, or of pseudo-texts, > 0. Published example: 1e-3; the authors' reference settings for texts: 0.1."""
    latent_size: int = Field(256, ge=1, le=65536)
    """Size of z. Published example: 256."""
    generator_width: int = Field(128, ge=1, le=4096)
    """ngf: base channels of the generator. Published example: 128."""
    embedding_weight: float = Field(0.2, ge=0, le=100)
    """Weight of the class embedding added to z, >= 0. Published example: 0.2."""
    generator_file: PathText | None = None
    """Safetensors file with an image generator's weights, used as they are and never trained; null = one that learns (paper). Its sizes are latent_size and generator_width."""
    text_start: Literal["random", "vocabulary", "snippets"] = "vocabulary"
    """Where the embeddings of pseudo-texts start: random = standard normal, vocabulary = normal with the table's moments, snippets = texts of the class (task.snippets). Texts only. Paper: snippets; ours: vocabulary, which needs no language model."""
    prompt_vectors: int = Field(4, ge=1, le=1024)
    """Meta-learned vectors in front of every pseudo-text, in the place of an image generator. Texts only. Ours, after the authors' reference settings: 4."""
    weights: SynthesisWeights = Field(default_factory=SynthesisWeights)
    """Loss weights of the synthesis. Paper, but for feature_stats (published example)."""
    reptile: ReptileSettings = Field(default_factory=AdamReptile)
    """How a round's adapted weights move the generator. Published example: adam; paper: convex."""

    distill_steps: int = Field(10, ge=0, le=100_000)
    """K_KD: distillation steps per arrival; 0 = a distilled delta of zero (AFL-DW). Paper: 10."""
    distill_batch: int = Field(32, ge=2, le=65536)
    """Pseudo-samples per teacher and step. Published example: 32."""
    distill_optimizer: Literal["adam", "sgd"] = "adam"
    """Optimiser of the student, fresh for every arrival; sgd has no momentum. Published example: adam."""
    distill_lr: float = Field(1e-4, gt=0, le=10)
    """Learning rate of the student, > 0. Published example: 1e-4 on CIFAR-10, for Adam."""
    distill_weight_decay: float = Field(1e-5, ge=0, le=1)
    """L2 term of the student's optimiser, >= 0. Published example: 1e-5."""
    distill_temperature: float = Field(1.0, gt=0, le=100)
    """T of the KL divergence, > 0. Paper: 1."""

    augmentation: Literal["none", "crop_flip"] = "none"
    """Augmentation of pseudo-samples in synthesis; crop_flip = reflect-pad 4, random crop, horizontal flip. Published example: crop_flip on CIFAR, none on FEMNIST."""
    distill_augmentation: Literal["same", "none", "crop_flip"] = "same"
    """Augmentation in distillation; same = as in synthesis. Published example: the same."""
    remember_answers: bool = False
    """Each teacher answers once for each pool sample, in pool order, instead of for every batch: cheaper where the pool is small, equal within 1e-5. Needs distill_augmentation none, and fewer samples asked than drawn. Ours."""
    loss_guard: bool = True
    """Drop a loss term that is not finite or above 3x the mean of its last 20 values. Published example: on."""
    diagnostics: bool = False
    """Also measure, with data a real server has not (oracle), proportion_correlation and ensemble_accuracy; never changes the model. Ours."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.distill_from == "stepped" and self.reviver.kind != "distillation":
            raise ValueError(
                f"distill_from=stepped does not fit reviver.kind={self.reviver.kind}, which distils nothing; use current"
            )
        if self.teachers == "random_weights" and self.reviver.kind != "distillation":
            raise ValueError(
                f"teachers=random_weights does not fit reviver.kind={self.reviver.kind}, which asks no teacher; use recent"
            )
        if self.remember_answers:
            self._require_rememberable()
        return self

    def _require_rememberable(self) -> None:
        if self.reviver.kind != "distillation":
            raise ValueError(
                f"remember_answers=true does not fit reviver.kind={self.reviver.kind}, which asks no teacher; use "
                "remember_answers=false"
            )
        later = self.augmentation if self.distill_augmentation == "same" else self.distill_augmentation
        if later != "none":
            raise ValueError(
                f"remember_answers=true does not fit distill_augmentation={self.distill_augmentation}, which makes every "
                "batch new; use distill_augmentation=none or remember_answers=false"
            )
        drawn = self.distill_steps * self.distill_batch * self.teacher_capacity
        renewed = (self.teacher_capacity - 1) * self.synthesis_batch // self.generate_every_versions
        if self.pool_capacity + renewed > drawn:
            raise ValueError(
                f"remember_answers=true does not pay: it asks for {self.pool_capacity + renewed} samples a version, where "
                f"{drawn} are drawn; lower pool_capacity or synthesis_batch, or use remember_answers=false"
            )

"""`model`: the network clients train."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fedrevive.settings.section import Section

Norm = Literal["none", "batch", "group"]


class CnnSettings(Section):
    """Three 3x3 convolutions (width, 2*width, 2*width; strides 2, 2, 1), ReLU, one linear layer."""

    name: Literal["cnn"] = "cnn"
    """Discriminator."""
    width: int = Field(16, ge=4, le=512, multiple_of=4)
    """Channels of the first convolution, a multiple of 4. Ours (19 k parameters on 14x14 images at 16)."""
    norm: Norm = "none"
    """`none`: feature-statistic trackers only, as in the published runs; `batch`: BatchNorm; `group`: GroupNorm behind a tracker. Published example: none."""


class FedAvgCnnSettings(Section):
    """FedAvg's network for 28x28 images: 5x5 convolutions (32, 64), each with ReLU and 2x2 max-pooling, then 512 hidden units (McMahan et al., arXiv:1602.05629)."""

    name: Literal["fedavg_cnn"] = "fedavg_cnn"
    """Discriminator."""
    norm: Norm = "none"
    """What follows each convolution, as in `cnn`. FedAvg's paper: nothing (`none`, whose trackers change no output)."""


class ResNet18Settings(Section):
    """ResNet-18 for small images: 3x3 stem, no pooling before the stages, no bias (11.16 M parameters on CIFAR-10; 1.1 GFLOP per image of 32x32)."""

    name: Literal["resnet18"] = "resnet18"
    """Discriminator."""
    norm: Norm = "none"
    """`none`: feature-statistic trackers only, as in the published runs; `batch`: BatchNorm; `group`: GroupNorm behind a tracker. Published example: none."""


ModelSettings = Annotated[CnnSettings | FedAvgCnnSettings | ResNet18Settings, Field(discriminator="name")]

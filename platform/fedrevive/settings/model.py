"""`model`: the network clients train."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fedrevive.settings.section import PathText, Section

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


class ConvNetSettings(Section):
    """The published runs' network for FEMNIST: three 3x3 convolutions of 64 channels, the first two with 2x2 max-pooling, then 200, 100 and the classes (0.42 M parameters at 28x28)."""

    name: Literal["convnet"] = "convnet"
    """Discriminator."""
    norm: Norm = "none"
    """What follows each convolution, as in `cnn`. Published: none, the trackers alone."""


class ResNet18Settings(Section):
    """ResNet-18 for small images: 3x3 stem, no pooling before the stages, no bias (11.16 M parameters on CIFAR-10; 1.1 GFLOP per image of 32x32)."""

    name: Literal["resnet18"] = "resnet18"
    """Discriminator."""
    norm: Norm = "none"
    """`none`: feature-statistic trackers only, as in the published runs; `batch`: BatchNorm; `group`: GroupNorm behind a tracker. Published example: none."""


class TextTransformerSettings(Section):
    """Compact transformer encoder for texts, trained from scratch: pre-norm blocks, no dropout, a tracker per block, mean over the tokens, one linear layer."""

    name: Literal["text_transformer"] = "text_transformer"
    """Discriminator."""
    width: int = Field(64, ge=8, le=4096, multiple_of=8)
    """Size of an embedding, a multiple of 8 and of heads. Ours."""
    heads: Literal[1, 2, 4, 8] = 4
    """Attention heads of a block. Ours."""
    layers: int = Field(2, ge=1, le=64)
    """Blocks. Ours."""


class T5EncoderSettings(Section):
    """Encoder of a pre-trained T5 with its own embeddings, frozen, and a new classifier of two layers on the first position (extra `text`)."""

    name: Literal["t5_encoder"] = "t5_encoder"
    """Discriminator."""
    folder: PathText
    """Folder with the model's config.json and model.safetensors; nothing is downloaded. Paper: t5-small, whose tokenizer.json goes to task.tokenizer_file and 32100 to task.vocabulary."""


ImageModelSettings = CnnSettings | FedAvgCnnSettings | ConvNetSettings | ResNet18Settings
TextModelSettings = TextTransformerSettings | T5EncoderSettings
ModelSettings = Annotated[ImageModelSettings | TextModelSettings, Field(discriminator="name")]

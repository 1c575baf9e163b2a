"""`model`: the network clients train."""

from __future__ import annotations

from typing import Literal

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


ModelSettings = CnnSettings

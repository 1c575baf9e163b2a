"""`client`: what a client does with the model it receives."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fedrevive.settings.section import Section


class ClientSettings(Section):
    """Local training: a fresh optimiser for every job, shuffled passes over the client's own samples."""

    optimizer: Literal["adam", "sgd"] = "adam"
    """Local optimiser, fresh for each job. Published example: adam."""
    lr: float = Field(1e-3, gt=0, le=100)
    """Local learning rate, > 0. Ours (published example: 3e-4 on CIFAR-10)."""
    batch_size: int = Field(32, ge=1, le=65536)
    """Samples per step; batches run across passes, so each is full. Paper: 32."""
    local_steps: int = Field(25, ge=1, le=1_000_000)
    """Optimiser steps per job. Paper: 25."""
    augmentation: Literal["none", "crop_flip", "crop_flip_rotate"] = "none"
    """Augmentation of every batch; crop_flip = pad 4 with black, random crop, horizontal flip; crop_flip_rotate turns by up to 15 degrees besides. Published: crop_flip on CIFAR-10, crop_flip_rotate on CIFAR-100, none on FEMNIST."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of a step; bfloat16 = convolutions and matrix products in bfloat16 (autocast), weights and their updates in float32: other results, faster where the processor has it. Ours."""

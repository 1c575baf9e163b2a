"""From generated images in [0, 1] to model inputs: optional augmentation, then the task's normalisation.

Differentiable, one gather for the whole batch. Index arithmetic rather than padding, because the gradient of
a gather is deterministic on a GPU while that of reflection padding is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

PADDING = 4
"""Pixels a crop may move in each direction (published example)."""

Augmentation = Callable[[Tensor, torch.Generator], Tensor]
"""images [N, C, H, W] in [0, 1] -> model inputs [N, C, H, W], channels last; draws from the generator."""


def build_augmentation(
    kind: Literal["none", "crop_flip"],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: torch.device,
) -> Augmentation:
    """Model inputs from images; `mean` and `std` are the task's, one number per channel."""
    shift = torch.tensor(mean, device=device).view(1, -1, 1, 1)
    scale = torch.tensor(std, device=device).view(1, -1, 1, 1)

    def augment(images: Tensor, random: torch.Generator) -> Tensor:
        if kind == "crop_flip":
            images = crop_flip(images, random)
        return ((images - shift) / scale).contiguous(memory_format=torch.channels_last)

    return augment


def crop_flip(images: Tensor, random: torch.Generator) -> Tensor:
    """Reflect-pad by 4, crop at a random place, flip left-right with probability 1/2, each sample on its own.

    Shapes: [N, C, H, W] -> [N, C, H, W]; H and W must exceed 4.
    """
    count, _, height, width = images.shape
    device = images.device
    offsets = torch.randint(-PADDING, PADDING + 1, (2, count, 1), generator=random, device=device)
    flipped = torch.rand(count, 1, generator=random, device=device) < 0.5
    rows = _reflected(torch.arange(height, device=device) + offsets[0], height)  # [N, H]
    columns = _reflected(torch.arange(width, device=device) + offsets[1], width)  # [N, W]
    columns = torch.where(flipped, columns.flip(1), columns)
    sample = torch.arange(count, device=device)[:, None, None]
    picked = images[sample, :, rows[:, :, None], columns[:, None, :]]  # [N, H, W, C]
    return picked.permute(0, 3, 1, 2)


def _reflected(index: Tensor, size: int) -> Tensor:
    last = size - 1
    return last - (last - index.abs()).abs()

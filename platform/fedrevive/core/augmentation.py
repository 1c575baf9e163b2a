"""Random crops, flips and rotations, and the way from generated images in [0, 1] to model inputs.

Differentiable, one gather for the whole batch. Index arithmetic rather than padding, because the gradient of
a gather is deterministic on a GPU while that of reflection padding is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

PADDING = 4
"""Pixels a crop may move in each direction (published example)."""
MAX_DEGREES = 15
"""Largest rotation (published, on CIFAR-100)."""

Augmentation = Callable[[Tensor, torch.Generator], Tensor]
"""Pool samples -> model inputs; draws from the generator. Images [N, C, H, W] in [0, 1] are normalised."""


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


def crop_flip(
    images: Tensor, random: torch.Generator, border: Literal["reflect", "black"] = "reflect"
) -> Tensor:
    """Pad by 4, crop at a random place, flip left-right with probability 1/2, each sample on its own.

    Shapes: [N, C, H, W] -> [N, C, H, W] with channels-last strides, any dtype; H and W must exceed 4.

    Args:
        images: whatever a pixel's scale, black is 0.
        random: where it draws; its device may be another than the images'.
        border: what surrounds an image. Published example: reflect for pseudo-samples, black for clients.
    """
    count, _, height, width = images.shape
    device = images.device
    offsets = torch.randint(-PADDING, PADDING + 1, (2, count, 1), generator=random, device=random.device)
    flipped = torch.rand(count, 1, generator=random, device=random.device) < 0.5
    offsets, flipped = offsets.to(device), flipped.to(device)
    rows = torch.arange(height, device=device) + offsets[0]  # [N, H]
    columns = torch.arange(width, device=device) + offsets[1]  # [N, W]
    columns = torch.where(flipped, columns.flip(1), columns)
    sample = torch.arange(count, device=device)[:, None, None]
    inner_rows, inner_columns = _reflected(rows, height), _reflected(columns, width)
    picked = images[sample, :, inner_rows[:, :, None], inner_columns[:, None, :]]  # [N, H, W, C]
    if border == "black":
        inside = (rows == inner_rows)[:, :, None] & (columns == inner_columns)[:, None, :]
        picked = picked * inside[..., None]
    return picked.permute(0, 3, 1, 2)


def rotate(images: Tensor, random: torch.Generator) -> Tensor:
    """Turn each image about its centre counter-clockwise by an angle from U(-15, 15) degrees; outside is black.

    Shapes: [N, C, H, W] -> [N, C, H, W] with channels-last strides, any dtype. The nearest pixel, as torchvision does.
    """
    count, _, height, width = images.shape
    device = images.device
    turns = 2 * torch.rand(count, 1, 1, generator=random, device=random.device).to(device) - 1
    angle = turns * math.radians(MAX_DEGREES)
    sine, cosine = torch.sin(angle), torch.cos(angle)
    y = torch.arange(height, device=device)[:, None] - (height - 1) / 2  # from the centre
    x = torch.arange(width, device=device) - (width - 1) / 2
    rows = torch.round(cosine * y + sine * x + (height - 1) / 2).long()  # [N, H, W]
    columns = torch.round(cosine * x - sine * y + (width - 1) / 2).long()
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    sample = torch.arange(count, device=device)[:, None, None]
    picked = images[sample, :, rows.clamp(0, height - 1), columns.clamp(0, width - 1)]  # [N, H, W, C]
    return (picked * inside[..., None]).permute(0, 3, 1, 2)


def _reflected(index: Tensor, size: int) -> Tensor:
    last = size - 1
    return last - (last - index.abs()).abs()

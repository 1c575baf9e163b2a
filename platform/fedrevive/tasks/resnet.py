"""ResNet-18 for small images, in the variant of the published runs.

Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun. "Deep Residual Learning for Image Recognition", arXiv:1512.03385.
From the published example: a 3x3 stem without pooling, a 1x1 convolution where a shortcut changes shape, no biases,
and feature trackers where the original has BatchNorm (20 of them).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedrevive.settings.model import Norm
from fedrevive.tasks.federated import TaskInfo
from fedrevive.tasks.normalisation import normalisation

STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
"""Channels and first stride of each stage of two blocks."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: [N, in, H, W] -> [N, out, ceil(H/stride), ceil(W/stride)]."""

    def __init__(self, norm: Norm, inward: int, outward: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inward, outward, 3, stride, padding=1, bias=False)
        self.position1 = nn.Sequential(normalisation(norm, outward, 1))
        self.conv2 = nn.Conv2d(outward, outward, 3, padding=1, bias=False)
        self.position2 = nn.Sequential(normalisation(norm, outward, 2))
        self.shortcut = nn.Sequential()
        if inward != outward or stride > 1:
            self.shortcut.add_module("conv", nn.Conv2d(inward, outward, 1, stride, bias=False))
            self.shortcut.add_module("position", nn.Sequential(normalisation(norm, outward, 3)))

    def forward(self, features: Tensor) -> Tensor:
        # ReLU is not in place: what the statistic layers were given must survive until the loss reads it.
        hidden = torch.relu(self.position1(self.conv1(features)))
        residual = self.position2(self.conv2(hidden))
        # After the residual: statistic layers must be met in the order in which they are registered.
        return torch.relu(residual + self.shortcut(features))


class ResNet18(nn.Module):
    """Normalised images [N, C, H, W] of any size -> logits [N, classes]; every stage but the first halves the sides."""

    def __init__(self, norm: Norm, info: TaskInfo) -> None:
        super().__init__()
        width = STAGES[0][0]
        self.stem = nn.Conv2d(info.input_shape[0], width, 3, padding=1, bias=False)
        self.position = nn.Sequential(normalisation(norm, width, 0))
        blocks = []
        for channels, stride in STAGES:
            blocks += [BasicBlock(norm, width, channels, stride), BasicBlock(norm, channels, channels, 1)]
            width = channels
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(width, info.classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        features = self.blocks(torch.relu(self.position(self.stem(images))))
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits

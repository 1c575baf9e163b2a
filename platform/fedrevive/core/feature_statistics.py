"""Channel statistics of hidden features: what a client model remembers of its data, what the generator imitates.

`FeatureTracker` takes the place of a normalisation layer and returns its input unchanged (published example);
BatchNorm's own running statistics serve the same purpose. A layer with statistics is either of the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.1


class FeatureTracker(nn.Module):
    """Identity that records channel mean and (biased) variance of its input in train mode, momentum 0.1.

    Shapes: input and output [N, C, H, W] or [N, C]; buffers running_mean [C] (starts at 0) and running_var [C] (at 1).
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, features: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                variance, mean = channel_moments(features.to(self.running_mean.dtype))
                self.running_mean.lerp_(mean, MOMENTUM)
                self.running_var.lerp_(variance, MOMENTUM)
        return features


def channel_moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """(Biased) variance and mean [C] of features [N, C, H, W] or [N, C].

    torch.var_mean over several dimensions takes 3 to 10 times as long on a CPU, forwards and backwards.
    """
    rows = features.permute(0, *range(2, features.dim()), 1).flatten(0, -2)
    mean = rows.mean(0)
    return (rows - mean).square().mean(0), mean


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """BatchNorm whose only buffers are float: the integer counter is unused at a fixed momentum."""
    layer = nn.BatchNorm2d(channels, momentum=MOMENTUM)
    layer.num_batches_tracked = None
    layer.register_load_state_dict_post_hook(_without_counter)  # type: ignore[no-untyped-call]
    return layer


def _without_counter(_: nn.Module, incompatible: Any) -> None:
    """Torch adds the counter to state dicts without a format version, such as those from safetensors."""
    kept = [key for key in incompatible.unexpected_keys if not key.endswith("num_batches_tracked")]
    incompatible.unexpected_keys[:] = kept


def statistic_layers(module: nn.Module) -> list[nn.Module]:
    """Layers with running statistics, in forward order of registration."""
    return [layer for layer in module.modules() if isinstance(layer, FeatureTracker | nn.BatchNorm2d)]


@contextmanager
def recorded_inputs(layers: list[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect the inputs [N, C, ...] that reach `layers` during a forward pass, with their graph."""
    inputs: list[Tensor] = []
    hooks = [layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0])) for layer in layers]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()

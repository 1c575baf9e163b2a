"""The image generator and its Reptile step: a meta-learned start from which each round adapts in a few steps.

The network follows Fast-DFKD's topology (algorithm.md §1.4). Its BatchNorm layers keep no running statistics:
the generator always runs on the statistics of the batch it makes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fedrevive.core.model_state import FlatModel
from fedrevive.core.seeds import Purpose, derived_seed
from fedrevive.settings.fedrevive import ConvexReptile, FedReviveSettings

ADAM_BETAS = (0.5, 0.999)
"""Decay rates of every Adam in synthesis (published example)."""
ADAM_EPS = 1e-8


class ImageGenerator(nn.Module):
    """Codes [N, latent] -> images [N, C, H, W] in [0, 1].

    The resolution doubles twice from ceil(H/4) x ceil(W/4); what exceeds H x W is cut off evenly (ours; nothing does
    at the published 28 and 32 pixels).

    Args:
        latent: size of a code.
        width: ngf, channels of the last hidden layer.
        image_shape: (C, H, W).
    """

    def __init__(self, latent: int, width: int, image_shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, height, side = image_shape
        rows, columns = -(-height // 4), -(-side // 4)
        self._seed_shape = (2 * width, rows, columns)
        top, left = (4 * rows - height) // 2, (4 * columns - side) // 2
        self._window = (..., slice(top, top + height), slice(left, left + side))
        self.dense = nn.Linear(latent, 2 * width * rows * columns)
        self.body = nn.Sequential(
            _batch_norm(2 * width),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False),
            _batch_norm(2 * width),
            nn.LeakyReLU(0.2),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * width, width, 3, padding=1, bias=False),
            _batch_norm(width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, channels, 3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, codes: Tensor) -> Tensor:
        hidden = self.dense(codes).view(-1, *self._seed_shape)
        images: Tensor = self.body(hidden.contiguous(memory_format=torch.channels_last))
        return images[self._window]


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, track_running_stats=False)


@dataclass(frozen=True)
class GeneratorState:
    """theta and the moments of the persistent Adam behind the Reptile step."""

    parameters: Tensor
    """theta, [G]."""
    first_moment: Tensor
    """[G]."""
    second_moment: Tensor
    """[G]."""
    steps: int


def build_generator(
    settings: FedReviveSettings, image_shape: tuple[int, ...], seed: int, device: torch.device
) -> FlatModel:
    """A generator with the initial weights of `seed`: the same on every device and in every process."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived_seed(seed, Purpose.INITIAL_GENERATOR))
        module = ImageGenerator(settings.latent_size, settings.generator_width, image_shape)
    return FlatModel(module, "reset", device)


def initial_state(generator: FlatModel) -> GeneratorState:
    """State of a generator that was never trained."""
    zeros = torch.zeros_like(generator.vector)
    return GeneratorState(generator.vector.clone(), zeros, zeros, 0)


def meta_step(settings: FedReviveSettings, state: GeneratorState, adapted: Tensor) -> GeneratorState:
    """Move theta towards the round's adapted weights [G], as `algorithm.reptile` says.

    Adapted weights that are not finite leave the state unchanged (ours).
    """
    if not bool(torch.isfinite(adapted).all()):
        return state
    if isinstance(settings.reptile, ConvexReptile):
        return convex_step(state, adapted, settings.reptile.weight)
    return reptile_step(state, adapted, settings.generator_lr)


def convex_step(state: GeneratorState, adapted: Tensor, weight: float) -> GeneratorState:
    """theta <- (1 - weight)*theta + weight*adapted (the paper's form, lambda unpublished)."""
    parameters = (1.0 - weight) * state.parameters + weight * adapted
    return replace(state, parameters=parameters, steps=state.steps + 1)


def reptile_step(state: GeneratorState, adapted: Tensor, lr: float) -> GeneratorState:
    """Adam on the pseudo-gradient theta - adapted (the published example's form)."""
    decay1, decay2 = ADAM_BETAS
    steps = state.steps + 1
    gradient = state.parameters - adapted
    first = decay1 * state.first_moment + (1 - decay1) * gradient
    second = decay2 * state.second_moment + (1 - decay2) * gradient.square()
    scale = (second / (1 - decay2**steps)).sqrt() + ADAM_EPS
    parameters = state.parameters - lr * (first / (1 - decay1**steps)) / scale
    return GeneratorState(parameters, first, second, steps)

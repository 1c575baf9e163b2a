"""Where pseudo-samples come from. A generator is theta and a way to draft a round's samples from it; that is all
synthesis knows, be theta a network of images that learns, one that was trained elsewhere, or prompts of texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fedrevive.core.generator import ImageGenerator, build_generator
from fedrevive.core.model_state import FlatModel
from fedrevive.settings.fedrevive import FedReviveSettings


@dataclass(frozen=True)
class Draft:
    """What one round adapts beside theta, and the samples that follow."""

    leaves: tuple[Tensor, ...]
    """Drawn for this round, trained with lr = latent_lr, then forgotten."""
    samples: Callable[[], Tensor]
    """Pool samples [B, ...] from theta and the leaves as they are now, with their graph."""


Drafting = Callable[[Tensor, int, torch.Generator], Draft]
"""(labels [B], classes, generator on the device) -> a round's draft; all its random values are drawn at once."""


@dataclass(frozen=True)
class SampleGenerator:
    """A generator as synthesis sees it."""

    theta: FlatModel
    """Workspace of theta; what it holds between rounds has no meaning, unless `learns` is False."""
    draft: Drafting
    learns: bool = True
    """Whether rounds adapt theta and a Reptile step follows; False: it stays as it is, and is no part of a state."""


def learning_images(
    settings: FedReviveSettings, image_shape: tuple[int, ...], seed: int, device: torch.device
) -> SampleGenerator:
    """The meta-learned image generator (the paper's), with its initial weights."""
    theta = build_generator(settings, image_shape, seed, device)
    return SampleGenerator(theta, _drafting(settings, theta))


def pretrained_images(
    settings: FedReviveSettings,
    image_shape: tuple[int, ...],
    weights: Mapping[str, Tensor],
    device: torch.device,
) -> SampleGenerator:
    """A generator of the same topology whose weights stay as they were given (the paper's first open question).

    Args:
        settings: sizes of the network.
        image_shape: (C, H, W).
        weights: its state dict.
        device: where it computes.

    Raises:
        RuntimeError: the weights are another network's.
    """
    module = ImageGenerator(settings.latent_size, settings.generator_width, image_shape)
    module.load_state_dict(weights)
    theta = FlatModel(module, "reset", device)
    module.requires_grad_(False)
    return SampleGenerator(theta, _drafting(settings, theta), learns=False)


def _drafting(settings: FedReviveSettings, theta: FlatModel) -> Drafting:
    """Codes of latents and class embeddings, both standard normal at first (algorithm.md §1.4)."""

    def draft(labels: Tensor, classes: int, random: torch.Generator) -> Draft:
        latents, embeddings = (
            torch.randn(rows, settings.latent_size, generator=random, device=labels.device).requires_grad_()
            for rows in (len(labels), classes)
        )

        def samples() -> Tensor:
            images: Tensor = theta.module(latents + settings.embedding_weight * embeddings[labels])
            return images

        return Draft((latents, embeddings), samples)

    return draft

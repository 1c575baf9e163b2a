"""What a server does with images and what it does with texts, wherever FedRevive's phases depend on which they are."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from fedrevive.algorithms.server_algorithm import Oracle, ServerContext
from fedrevive.core.augmentation import PADDING, Augmentation, build_augmentation
from fedrevive.core.model_state import FlatModel
from fedrevive.core.sample_generator import SampleGenerator, learning_images, pretrained_images
from fedrevive.core.synthetic_pool import SyntheticPool, empty_pool, noise_samples
from fedrevive.core.text_network import TextNetwork, random_tokens
from fedrevive.core.text_synthesis import TextSource, learning_prompts
from fedrevive.settings.fedrevive import FedReviveSettings

Augmenting = Literal["none", "crop_flip"]


def pool_inputs(kind: Augmenting, context: ServerContext) -> Augmentation:
    """From pool samples to model inputs: images are augmented and normalised, texts are inputs as they are.

    Raises:
        ValueError: the images are too small to be cropped.
    """
    if context.vocabulary is not None:
        return lambda texts, _: texts
    _, height, width = context.input_shape
    if kind == "crop_flip" and min(height, width) <= PADDING:
        raise ValueError(f"image size {height}x{width}: crop_flip needs more than {PADDING} pixels a side")
    return build_augmentation(kind, context.mean, context.std, context.device)


def sample_generator(
    settings: FedReviveSettings, context: ServerContext, server: FlatModel
) -> SampleGenerator | None:
    """The generator with its initial weights; None when the pool has another source.

    Args:
        settings: which one.
        context: the task.
        server: workspace that holds the server model during a round; pseudo-texts start from its table.

    Raises:
        ValueError: the task's texts have no place for a pseudo-text.
    """
    if settings.pool != "generator":
        return None
    seed, device = context.seed, context.device
    if context.vocabulary is not None:
        snippets = None if context.snippets is None else SyntheticPool(*context.snippets)
        source = TextSource(settings, server, context.input_shape[0], snippets)
        return learning_prompts(source, seed, device)
    if context.generator_weights is not None:
        return pretrained_images(settings, context.input_shape, context.generator_weights, device)
    return learning_images(settings, context.input_shape, seed, device)


def first_pool(settings: FedReviveSettings, context: ServerContext, network: FlatModel) -> SyntheticPool:
    """A pool without samples, of the shape its source makes: images, embeddings, or token ids."""
    if context.vocabulary is None:
        return empty_pool(context.input_shape, context.device)
    if settings.pool != "generator":
        return empty_pool(context.input_shape, context.device, torch.int64)
    assert isinstance(network.module, TextNetwork)
    return empty_pool((*context.input_shape, network.module.table().shape[1]), context.device)


def probes(context: ServerContext, count: int, random: torch.Generator) -> Tensor:
    """Noise a model is probed with, [count, ...], as model inputs: standard normal, or random tokens (ours)."""
    if context.vocabulary is not None:
        return random_tokens(count, context.input_shape[0], context.vocabulary, random)
    return torch.randn((count, *context.input_shape), generator=random, device=context.device)


def noise(context: ServerContext, labels: Tensor, random: torch.Generator) -> Tensor:
    """Pool samples of the control without a generator, one for each of `labels` [n]: what probes are made of."""
    if context.vocabulary is not None:
        return probes(context, len(labels), random)
    mean, std = (
        torch.tensor(v, device=context.device).view(1, -1, 1, 1) for v in (context.mean, context.std)
    )
    return noise_samples(labels, context.input_shape, mean, std, random)


def held_out(oracle: Oracle, context: ServerContext) -> SyntheticPool:
    """The KD split as pool samples (oracle)."""
    inputs = oracle.kd_inputs
    samples = inputs.float() / 255.0 if context.vocabulary is None else inputs.long()
    return SyntheticPool(samples, oracle.kd_labels)

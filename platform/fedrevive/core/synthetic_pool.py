"""D_KD: the pseudo-samples teachers are asked about, first in, first out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedrevive.core.teachers import draw_classes


@dataclass(frozen=True)
class SyntheticPool:
    """Un-augmented samples with the labels they were made for, oldest first."""

    samples: Tensor
    """Images [n, C, H, W] in [0, 1]; embeddings of pseudo-texts [n, L, D]; token ids of other texts [n, L]."""
    labels: Tensor
    """[n], int64."""

    def __len__(self) -> int:
        return self.labels.shape[0]


def noise_samples(
    labels: Tensor, input_shape: tuple[int, ...], mean: Tensor, std: Tensor, random: torch.Generator
) -> Tensor:
    """Images [n, C, H, W] that are standard normal once normalised, as probes are; so not within [0, 1] (control).

    Args:
        labels: [n], only their number matters: noise has no class.
        input_shape: (C, H, W).
        mean: the task's normalisation, [1, C, 1, 1].
        std: likewise.
        random: generator on the device.
    """
    noise = torch.randn(len(labels), *input_shape, generator=random, device=labels.device)
    return mean + std * noise


def real_samples(
    held_out: SyntheticPool, shares: Tensor, count: int, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Real samples [count, ...] and their labels [count] (control).

    A class ~ `shares` [classes], then one of its samples.
    """
    drawn = draw_by_class(held_out, shares[None], count, random)[0]
    return held_out.samples[drawn], held_out.labels[drawn]


def empty_pool(
    shape: tuple[int, ...], device: torch.device, dtype: torch.dtype = torch.float32
) -> SyntheticPool:
    """A pool without samples, which will be of this shape and type."""
    return SyntheticPool(
        samples=torch.empty(0, *shape, dtype=dtype, device=device),
        labels=torch.empty(0, dtype=torch.int64, device=device),
    )


def appended(pool: SyntheticPool, samples: Tensor, labels: Tensor, capacity: int) -> SyntheticPool:
    """A pool with `samples` [m, ...] and `labels` [m] behind the old ones, the newest `capacity` kept.

    The old pool stays as it is: one copy every T_gen versions is small beside the round that made the
    samples.
    """
    return SyntheticPool(
        samples=torch.cat([pool.samples, samples.contiguous()])[-capacity:].clone(),
        labels=torch.cat([pool.labels, labels])[-capacity:].clone(),
    )


def draw_uniformly(pool: SyntheticPool, teachers: int, count: int, random: torch.Generator) -> Tensor:
    """Positions in the pool for each teacher: [teachers, count], int64, each as likely as any other."""
    shape = (teachers, count)
    uniform = torch.rand(shape, dtype=torch.float64, generator=random, device=pool.labels.device)
    return (uniform * len(pool)).long()


def draw_by_class(pool: SyntheticPool, proportions: Tensor, count: int, random: torch.Generator) -> Tensor:
    """Positions in the pool for each teacher: [c, count], int64, drawn with replacement.

    A class ~ the teacher's proportions, then as `draw_of_class`.

    Args:
        pool: at least one sample.
        proportions: [c, classes].
        count: draws per teacher.
        random: generator on the pool's device.
    """
    classes = draw_classes(proportions, count, random)  # [c, count]
    return draw_of_class(pool, classes, proportions.shape[1], random)


def draw_of_class(pool: SyntheticPool, classes: Tensor, number: int, random: torch.Generator) -> Tensor:
    """Positions in the pool [c, count], int64: for each of `classes` [c, count] a uniform sample of that class.

    A class the pool has no sample of gives a uniform sample of the whole pool (published example).

    Args:
        pool: at least one sample.
        classes: [c, count].
        number: how many classes there are.
        random: generator on the pool's device.
    """
    uniform = torch.rand(classes.shape, dtype=torch.float64, generator=random, device=classes.device)
    by_class = torch.argsort(pool.labels, stable=True)
    sizes = torch.bincount(pool.labels, minlength=number)  # [number]
    starts = sizes.cumsum(0) - sizes
    absent = sizes == 0
    sizes = torch.where(absent, len(pool), sizes)
    starts = torch.where(absent, 0, starts)
    return by_class[starts[classes] + (uniform * sizes[classes]).long()]

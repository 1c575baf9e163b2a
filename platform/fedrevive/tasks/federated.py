"""Federated data in memory: one pool of images, and for every client the indices of its own samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SPLIT_SEED = 42
"""Every experiment sees the same parts, whatever its own seed. Published example: 42."""


@dataclass(frozen=True)
class TaskInfo:
    """What a task's networks need to know; no data."""

    name: str
    input_shape: tuple[int, int, int]
    """(C, H, W) in pixels."""
    classes: int
    mean: tuple[float, ...]
    """Mean of each channel over the train part, pixels scaled to [0, 1]."""
    std: tuple[float, ...]
    """Standard deviation of each channel, same scale."""


@dataclass(frozen=True)
class Split:
    """Images and their labels."""

    images: NDArray[np.uint8]
    """[n, C, H, W], C-contiguous."""
    labels: NDArray[np.int64]
    """[n], in [0, classes)."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> Split:
        """A copy of the named samples, in the order of `indices`."""
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Splits:
    """The four disjoint parts of a task."""

    train: Split
    validation: Split
    """For decisions made while training: stopping, tuning."""
    kd: Split
    """Real images for data-dependent distillation only; the data-free methods never touch it."""
    test: Split
    """Behind every reported accuracy."""


@dataclass(frozen=True)
class FederatedData:
    """A task's data and its distribution over the clients."""

    info: TaskInfo
    train: Split
    validation: Split
    kd: Split
    test: Split
    client_indices: NDArray[np.int32]
    """[N, samples]: rows of `train` that each client holds."""

    def class_histograms(self) -> NDArray[np.int64]:
        """Samples of each class that each client holds, [N, classes]; a sample held twice counts twice."""
        clients = len(self.client_indices)
        rows = np.arange(clients)[:, None] * self.info.classes
        flat = (rows + self.train.labels[self.client_indices]).ravel()
        return np.bincount(flat, minlength=clients * self.info.classes).reshape(clients, self.info.classes)


def split_indices(count: int, percent: tuple[int, ...]) -> list[NDArray[np.int64]]:
    """Cut a fixed shuffle of `count` samples into disjoint parts; the percentages sum to 100."""
    shuffled = np.random.Generator(np.random.Philox(SPLIT_SEED)).permutation(count)
    bounds = np.cumsum(percent)[:-1] * count // 100
    return np.split(shuffled, bounds)

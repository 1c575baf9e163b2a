"""Federated data in memory: one pool of samples, and for every client the indices of its own."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SPLIT_SEED = 42
"""Every experiment sees the same parts, whatever its own seed. Published example: 42."""
NONE = -1
"""In place of a sample's index."""


@dataclass(frozen=True)
class TaskInfo:
    """What a task's networks need to know; no data."""

    name: str
    input_shape: tuple[int, ...]
    """(C, H, W) in pixels; (L,) for texts of L tokens."""
    classes: int
    mean: tuple[float, ...]
    """Mean of each channel over the train part, pixels scaled to [0, 1]; () for texts."""
    std: tuple[float, ...]
    """Standard deviation of each channel, same scale; () for texts."""
    vocabulary: int | None = None
    """Token ids are 0..vocabulary - 1, of which 0 is padding; None for images."""


@dataclass(frozen=True)
class Split:
    """Samples and their labels."""

    inputs: NDArray[np.uint8] | NDArray[np.int32]
    """Images [n, C, H, W], uint8, or token ids [n, L], int32; C-contiguous."""
    labels: NDArray[np.int64]
    """[n], in [0, classes)."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> Split:
        """A copy of the named samples, in the order of `indices`."""
        return Split(self.inputs[indices], self.labels[indices])


@dataclass(frozen=True)
class Splits:
    """The four disjoint parts of a task."""

    train: Split
    validation: Split
    """For decisions made while training: stopping, tuning."""
    kd: Split
    """Real samples for data-dependent distillation only; the data-free methods never touch it."""
    test: Split
    """Behind every reported accuracy."""
    train_owners: NDArray[np.int64] | None = field(default=None, kw_only=True)
    """[n]: whose each sample of `train` is, >= 0; None where the data does not say."""
    snippets: Split | None = field(default=None, kw_only=True)
    """Public texts by class that nobody of the task wrote; None where there are none."""


@dataclass(frozen=True)
class FederatedData:
    """A task's data and its distribution over the clients."""

    info: TaskInfo
    train: Split
    validation: Split
    kd: Split
    test: Split
    client_indices: NDArray[np.int32]
    """[N, samples]: rows of `train` that each client holds; NONE fills the end of a row that holds fewer."""
    snippets: Split | None = None
    """Public texts by class that nobody of the task wrote; None where there are none."""

    def class_histograms(self) -> NDArray[np.int64]:
        """Samples of each class that each client holds, [N, classes]; a sample held twice counts twice."""
        clients, held = len(self.client_indices), self.client_indices != NONE
        rows = np.arange(clients)[:, None] * self.info.classes
        flat = (rows + self.train.labels[self.client_indices])[held]
        return np.bincount(flat, minlength=clients * self.info.classes).reshape(clients, self.info.classes)


def split_indices(count: int, percent: tuple[int, ...]) -> list[NDArray[np.int64]]:
    """Cut a fixed shuffle of `count` samples into disjoint parts; the percentages sum to 100."""
    shuffled = np.random.Generator(np.random.Philox(SPLIT_SEED)).permutation(count)
    bounds = np.cumsum(percent)[:-1] * count // 100
    return np.split(shuffled, bounds)

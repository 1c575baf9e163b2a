"""What an algorithm is: two pure functions, `init` and `apply`, over one frozen state. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fedrevive.settings.algorithm import AlgorithmSettings

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from fedrevive.core.messages import ClientUpdate, ModelSnapshot, StepInfo
    from fedrevive.core.model_state import FlatModel, ModelSpec

Dispatch = Literal["continuous", "cohort"]
"""continuous: a free slot is refilled at once; cohort: K clients start when the last of K has arrived."""


@dataclass(frozen=True)
class ServerContext:
    """What an algorithm knows about the task and the model."""

    new_model: Callable[[], FlatModel]
    """A fresh workspace on `device`: same spec, same initial weights each time."""
    initial_model: Tensor
    """[P + S], on `device`."""
    spec: ModelSpec
    input_shape: tuple[int, int, int]
    """(C, H, W)."""
    classes: int
    mean: tuple[float, ...]
    """Per channel, for normalisation."""
    std: tuple[float, ...]
    forward_flops: int
    """Forward pass of the model for one sample (multiply-add = 2)."""
    device: torch.device
    seed: int


@dataclass(frozen=True)
class ServerState:
    """Everything a server needs to continue: dataclasses, tensors, numbers, strings, tuples, dicts, None."""

    version: int
    """t."""
    arrivals: int
    """Uploads accepted so far."""
    model: Tensor
    """[P + S]."""
    delta_sum: Tensor | None
    """[P], sum of the pending mixed deltas; None when nothing is pending."""
    buffer_sum: Tensor | None
    """[S], sum of the pending clients' buffers; None when nothing is pending or buffers are reset."""
    pending: int
    """Updates since the last new version, 0..B-1."""
    memory: Any
    """The algorithm's own frozen record, or None."""


@dataclass(frozen=True)
class ServerAlgorithm:
    """A server's rule.

    `apply(state, base, update)` changes none of its arguments and draws randomness only from streams keyed by
    the seed and by counters in the state: calling it again gives the same bits.
    """

    name: str
    dispatch: Dispatch
    init: Callable[[], ServerState]
    apply: Callable[[ServerState, ModelSnapshot, ClientUpdate], tuple[ServerState, StepInfo]]


def dispatch_of(settings: AlgorithmSettings) -> Dispatch:
    """How the algorithm hands out work."""
    return "cohort" if settings.name == "fedavg" else "continuous"

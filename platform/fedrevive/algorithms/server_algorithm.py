"""What an algorithm is: two pure functions, `init` and `apply`, over one frozen state. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fedrevive.settings.algorithm import AlgorithmSettings, is_oracle
from fedrevive.settings.fedrevive import FedReviveSettings

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from fedrevive.core.messages import ClientUpdate, ModelSnapshot, StepInfo
    from fedrevive.core.model_state import FlatModel, ModelSpec

Dispatch = Literal["continuous", "cohort"]
"""continuous: a free slot is refilled at once; cohort: K clients start when the last of K has arrived."""


@dataclass(frozen=True)
class Oracle:
    """What a real server could not see: for ablations, upper bounds and measurements, never for the method."""

    class_histograms: Tensor
    """[N, classes], int64: samples of each class that each client holds."""
    kd_inputs: Tensor
    """Held-out real samples for data-dependent distillation: uint8 images [n, C, H, W] or int32 token ids [n, L]."""
    kd_labels: Tensor
    """[n], int64."""


@dataclass(frozen=True)
class ServerContext:
    """What an algorithm knows about the task and the model."""

    new_model: Callable[[], FlatModel]
    """A fresh workspace on `device`: same spec, same initial weights each time."""
    initial_model: Tensor
    """[P + S], on `device`."""
    spec: ModelSpec
    input_shape: tuple[int, ...]
    """(C, H, W) of an image, or (L,) of a text in tokens."""
    classes: int
    mean: tuple[float, ...]
    """Per channel, for normalisation; () for texts."""
    std: tuple[float, ...]
    forward_flops: int
    """Forward pass of the model for one sample (multiply-add = 2)."""
    device: torch.device
    seed: int
    oracle: Oracle | None = None
    """None unless `needs_oracle` says that the settings ask for it."""
    vocabulary: int | None = None
    """Token ids are 0..vocabulary - 1; None for images."""
    snippets: tuple[Tensor, Tensor] | None = None
    """Public texts: token ids [n, L] and their classes [n]; None unless the settings start pseudo-texts from them."""
    generator_weights: Mapping[str, Tensor] | None = None
    """State dict of the generator that algorithm.generator_file names; None without one."""


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


LocalSteps = Callable[[ServerState], Mapping[int, int]]
"""Optimiser steps, by client, of clients dispatched from a state; a client left out does client.local_steps."""


def as_configured(state: ServerState) -> Mapping[int, int]:
    """Every client does client.local_steps."""
    return {}


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
    complete: Callable[[ServerState], ServerState]
    """The next version from the updates that are pending, fewer than B; the state itself when none is. A cohort of
    which some uploads were lost or rejected ends with it."""
    local_steps: LocalSteps = as_configured
    """Decided by the state at dispatch, so that it travels with the snapshot and jobs stay pure functions."""


def needs_oracle(settings: AlgorithmSettings) -> bool:
    """Whether the settings ask for data a real server could not see; without it a server gets none at all."""
    match settings:
        case FedReviveSettings(diagnostics=True):
            return True
        case _:
            return is_oracle(settings)


def needs_snippets(settings: AlgorithmSettings) -> bool:
    """Whether the settings start pseudo-texts from the task's public snippets."""
    return (
        isinstance(settings, FedReviveSettings)
        and settings.pool == "generator"
        and settings.text_start == "snippets"
    )


def dispatch_of(settings: AlgorithmSettings) -> Dispatch:
    """How the algorithm hands out work."""
    return "cohort" if settings.name == "fedavg" else "continuous"

"""What a client does: a fixed number of optimiser steps from the model it received, on its own samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fedrevive.core.adam import Adam
from fedrevive.core.augmentation import crop_flip, rotate
from fedrevive.core.messages import ClientTask, ClientUpdate, FloatVector
from fedrevive.core.model_state import FlatModel
from fedrevive.core.seeds import Purpose, torch_generator
from fedrevive.core.stopwatch import Stopwatch
from fedrevive.settings.client import ClientSettings

_AS_IT_IS = nullcontext()


@dataclass(frozen=True)
class ClientData:
    """Training samples of all clients, on the training device."""

    inputs: Tensor
    """Images, uint8 [n, H, W, C] (channels last, so that a batch needs no reordering), or token ids, int32 [n, L]."""
    labels: Tensor
    """int64 [n]."""
    client_indices: Tensor
    """int32 [N, samples]: which samples each client holds; -1 fills the end of a row that holds fewer."""
    mean: Tensor
    """Per channel [C], of images scaled to [0, 1]; [0] for texts."""
    std: Tensor
    """Per channel [C]; [0] for texts."""

    def owned(self, client: int) -> Tensor:
        """Indices of a client's samples, [samples]."""
        row = self.client_indices[client]
        return row[: int((row >= 0).sum())]

    def batch(self, indices: Tensor, augment: Callable[[Tensor], Tensor] | None) -> tuple[Tensor, Tensor]:
        """Model inputs and labels [B]; `augment` takes and gives images [B, C, H, W]."""
        stored = self.inputs[indices]
        if augment is not None:
            stored = augment(stored.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return model_inputs(stored, self.mean, self.std), self.labels[indices]


def model_inputs(stored: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """What a network is fed: token ids [B, L] as they are; uint8 [B, H, W, C] -> normalised float [B, C, H, W] with
    channels-last strides.
    """
    if stored.dtype != torch.uint8:
        return stored
    scaled = stored.to(torch.float32).div_(255.0)
    return scaled.sub_(mean).div_(std).permute(0, 3, 1, 2)


def train_client(
    model: FlatModel,
    base: FloatVector,
    data: ClientData,
    task: ClientTask,
    settings: ClientSettings,
    *,
    seed: int,
    proximal: float = 0.0,
) -> ClientUpdate:
    """Train one client from `base`; a pure function of its arguments (`model` is a workspace, overwritten).

    Args:
        model: workspace of the right architecture.
        base: the model the client received [P + S].
        data: samples of all clients.
        task: which client and which of its jobs.
        settings: optimiser, learning rate, batch size, steps.
        seed: the experiment's seed; sample order and augmentation are keyed by (seed, client, n-th job).
        proximal: rho of FedAsync's term rho/2*|x - base|^2.
    """
    watch = Stopwatch()
    model.load_array(base)
    if not model.module.training:  # the switch visits every layer
        model.module.train()
    anchor = model.parameters.clone() if proximal else None
    step = _step(model, settings)
    random = torch_generator(seed, Purpose.LOCAL_TRAINING, task.client_id, task.nth)
    order = _sample_order(data.owned(task.client_id), settings, random)
    inputs, labels = data.batch(order, _augmentation(settings.augmentation, random))
    losses = torch.zeros((), device=model.vector.device)
    size = settings.batch_size
    for start in range(0, len(labels), size):
        model.gradient.zero_()
        # One context per step: autocast keeps the weights it has converted until the context ends.
        with _arithmetic(model, settings):
            logits = model.module(inputs[start : start + size])
        batch_loss = functional.cross_entropy(logits.float(), labels[start : start + size])
        batch_loss.backward()  # type: ignore[no-untyped-call]
        if anchor is not None:
            model.gradient.add_(model.parameters - anchor, alpha=proximal)
        step()
        losses += batch_loss.detach()
    train_loss = float(losses) / settings.local_steps
    return ClientUpdate(
        client_id=task.client_id,
        job=task.job,
        model=model.vector.to("cpu", copy=True).numpy(),
        samples=len(labels),
        train_loss=train_loss,
        timing=watch.timing("train"),
    )


def _augmentation(kind: str, random: torch.Generator) -> Callable[[Tensor], Tensor] | None:
    """What a client does to its images [B, C, H, W], uint8; None = nothing."""
    match kind:
        case "crop_flip":
            return lambda images: crop_flip(images, random, "black")
        case "crop_flip_rotate":
            return lambda images: rotate(crop_flip(images, random, "black"), random)
    return None


def _arithmetic(model: FlatModel, settings: ClientSettings) -> AbstractContextManager[object]:
    if settings.precision == "float32":
        return _AS_IT_IS
    return torch.autocast(model.vector.device.type, torch.bfloat16)


def _step(model: FlatModel, settings: ClientSettings) -> Callable[[], object]:
    """One optimiser step on the model's flat parameters and gradient, with fresh moments for Adam."""
    if settings.optimizer == "sgd":
        return lambda: model.parameters.add_(model.gradient, alpha=-settings.lr)
    adam = Adam([model.parameters], [settings.lr])
    return lambda: adam.step([model.gradient])


def _sample_order(owned: Tensor, settings: ClientSettings, random: torch.Generator) -> Tensor:
    """Indices [steps * batch]: shuffled passes over the client's samples, one after the other."""
    needed = settings.local_steps * settings.batch_size
    passes = math.ceil(needed / len(owned))
    order = torch.cat([torch.randperm(len(owned), generator=random) for _ in range(passes)])[:needed]
    return owned[order.to(owned.device)].long()

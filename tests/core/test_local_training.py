"""Local training against a slow float64 form: plain descent, and FedAsync's proximal term."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fedrevive.core.local_training import ClientData, train_client
from fedrevive.core.messages import ClientTask
from fedrevive.core.model_state import FlatModel
from fedrevive.settings.client import ClientSettings

SAMPLES, PIXELS, CLASSES = 12, 4, 3


def workspace() -> FlatModel:
    return FlatModel(nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, CLASSES, bias=False)), "reset")


def whole_batches() -> tuple[ClientData, np.ndarray, np.ndarray]:
    """One client whose every batch is its whole data, so that the order of samples does not matter."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (SAMPLES, 2, 2, 1), dtype=np.uint8)
    labels = random.integers(0, CLASSES, SAMPLES)
    data = ClientData(
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels),
        client_indices=torch.arange(SAMPLES, dtype=torch.int32)[None],
        mean=torch.tensor([0.5]),
        std=torch.tensor([0.25]),
    )
    inputs = (images.reshape(SAMPLES, PIXELS) / 255 - 0.5) / 0.25
    return data, inputs, labels


@pytest.mark.parametrize("proximal", [0.0, 0.8])
def test_descent_equals_the_slow_form(proximal: float) -> None:
    data, inputs, labels = whole_batches()
    base = np.random.default_rng(1).standard_normal(CLASSES * PIXELS).astype(np.float32)
    settings = ClientSettings(optimizer="sgd", lr=0.3, batch_size=SAMPLES, local_steps=6)
    task = ClientTask(client_id=0, job=0, nth=0, base_arrivals=0, dispatched_at=0, arrives_at=1)
    update = train_client(workspace(), base, data, task, settings, seed=0, proximal=proximal)

    start = base.astype(np.float64).reshape(CLASSES, PIXELS)
    weights = start.copy()
    for _ in range(6):
        scores = np.exp(inputs @ weights.T)
        error = scores / scores.sum(axis=1, keepdims=True) - np.eye(CLASSES)[labels]
        gradient = error.T @ inputs / SAMPLES + proximal * (weights - start)
        weights = weights - 0.3 * gradient
    np.testing.assert_allclose(update.model, weights.ravel(), atol=1e-5)
    assert update.samples == 6 * SAMPLES

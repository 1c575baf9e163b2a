"""Accuracy and loss against a computation by hand, and in eval mode."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fedrevive.core.evaluation import CHUNK, measure
from fedrevive.core.model_state import FlatModel

CLASSES, PIXELS = 4, 9


@pytest.mark.parametrize("count", [1, CHUNK, 2 * CHUNK + 37])
def test_measurement_equals_the_computation_by_hand(count: int) -> None:
    random = np.random.default_rng(0)
    inputs = random.standard_normal((count, PIXELS))
    weights = random.standard_normal((CLASSES, PIXELS))
    logits = inputs @ weights.T
    labels = np.where(random.random(count) < 0.6, logits.argmax(axis=1), random.integers(0, CLASSES, count))
    labels[-min(count, 37) :] = logits[-min(count, 37) :].argmin(axis=1)  # the last chunk is all wrong

    model = FlatModel(nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, CLASSES, bias=False)), "reset")
    model.load(torch.from_numpy(weights.ravel()).float())
    measured = measure(
        model, torch.from_numpy(inputs).float().reshape(count, 1, 3, 3), torch.from_numpy(labels)
    )

    right = sum(int(row.argmax()) == label for row, label in zip(logits, labels, strict=True))
    chosen = logits[np.arange(count), labels]
    losses = np.log(np.exp(logits).sum(axis=1)) - chosen
    assert measured.accuracy == pytest.approx(right / count, abs=1e-12)
    assert measured.loss == pytest.approx(losses.mean(), rel=1e-5)
    if count > CHUNK:
        assert 0.3 < measured.accuracy < 0.9


def test_measuring_is_done_in_eval_mode_and_changes_nothing() -> None:
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(PIXELS, track_running_stats=True), nn.Dropout(0.9))
    del module[1].num_batches_tracked
    module[1].num_batches_tracked = None
    module.append(nn.Linear(PIXELS, CLASSES))
    model = FlatModel(module, "average")
    model.module.train()
    before = model.vector.clone()
    images = 3 + torch.randn((40, 1, 3, 3), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % CLASSES
    one, other = measure(model, images, labels), measure(model, images, labels)
    assert one == other
    assert torch.equal(model.vector, before)
    with torch.no_grad():
        logits = module[3](images.flatten(1) / (1 + 1e-5) ** 0.5)  # fresh statistics: mean 0, variance 1
    assert one.accuracy == pytest.approx(float((logits.argmax(1) == labels).double().mean()))

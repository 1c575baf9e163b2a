"""Accuracy and loss of a server model on a held-out split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fedrevive.core.model_state import FlatModel

CHUNK = 512


@dataclass(frozen=True)
class Measurement:
    """One model on one split."""

    accuracy: float
    """Share of correct predictions, in [0, 1]."""
    loss: float
    """Mean cross-entropy."""


def measure(model: FlatModel, inputs: Tensor, labels: Tensor) -> Measurement:
    """Measure the loaded model in eval mode.

    Args:
        model: holds the parameters to measure.
        inputs: model inputs, n samples.
        labels: [n].
    """
    model.module.eval()
    correct = torch.zeros((), dtype=torch.int64, device=labels.device)
    loss = torch.zeros((), dtype=torch.float64, device=labels.device)
    with torch.inference_mode():
        for start in range(0, len(labels), CHUNK):
            expected = labels[start : start + CHUNK]
            logits = model.module(inputs[start : start + CHUNK])
            correct += (logits.argmax(1) == expected).sum()
            loss += functional.cross_entropy(logits, expected, reduction="sum").double()
    return Measurement(float(correct) / len(labels), float(loss) / len(labels))

"""What tells why the method wins or loses: measured beside it, never part of it, so no model depends on these."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedrevive.core.model_state import FlatModel
from fedrevive.core.teachers import TeacherBuffer

ACCURACY_SAMPLES = 512
"""Held-out samples behind `ensemble_accuracy`: a standard error of 2 points is enough for a diagnosis (ours)."""


def mean_entropy(proportions: Tensor) -> float:
    """Entropy of each row of [c, classes] in nats, averaged: 0 = every teacher claims one class, ln(classes) = all."""
    return float(torch.special.entr(proportions.double()).sum(dim=1).mean())


def mean_correlation(estimated: Tensor, true: Tensor) -> float | None:
    """Pearson correlation over the classes of each row pair of [c, classes], averaged.

    Rows without variance, on either side, have none and are left out; None when no row is left.
    """
    left = estimated.double() - estimated.double().mean(dim=1, keepdim=True)
    right = true.double() - true.double().mean(dim=1, keepdim=True)
    scale = (left.square().sum(dim=1) * right.square().sum(dim=1)).sqrt()  # [c]
    varied = scale > 1e-12
    if not bool(varied.any()):
        return None
    return float(((left * right).sum(dim=1)[varied] / scale[varied]).mean())


def teacher_agreement(answers: Sequence[Tensor]) -> float | None:
    """Share of samples on which all teachers name one class; None with less than two teachers.

    Args:
        answers: logits [b, classes] of each teacher, all for the same samples.
    """
    if len(answers) < 2:
        return None
    named = torch.stack([logits.argmax(dim=1) for logits in answers])  # [c, b]
    return float((named == named[0]).all(dim=0).double().mean())


class EnsembleAccuracy:
    """Accuracy of the teachers' mean softmax on held-out images (oracle); a teacher answers once, when it is new.

    Args:
        inputs: model inputs [n, ...]; the first ACCURACY_SAMPLES are used.
        labels: [n].
    """

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self._inputs = inputs[:ACCURACY_SAMPLES]
        self._labels = labels[:ACCURACY_SAMPLES]
        self._known: list[tuple[Tensor, Tensor]] = []

    @torch.inference_mode()
    def measure(self, teachers: TeacherBuffer, models: Sequence[FlatModel]) -> float:
        """Share of correct answers; `models` hold `teachers`, in their order."""
        known = {id(vector): answer for vector, answer in self._known}
        answers = []
        for teacher, model in zip(teachers, models, strict=True):
            answer = known.get(id(teacher.model))
            answers.append(torch.softmax(model.module(self._inputs), dim=1) if answer is None else answer)
        self._known = [(t.model, answer) for t, answer in zip(teachers, answers, strict=True)]
        correct = torch.stack(answers).mean(dim=0).argmax(dim=1) == self._labels
        return float(correct.double().mean())

"""Teachers' answers to the pool, computed once per teacher and sample; for small pools that are not augmented (ours).

They are part of the server's state: sums inside a network depend on how many samples are asked together, so a resumed
run must not compute again what an uninterrupted one remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fedrevive.core.model_state import FlatModel
from fedrevive.core.teachers import RememberedAnswers

CHUNK = 256
"""Samples asked together, in pool order."""


def after_admission(answers: RememberedAnswers, capacity: int) -> RememberedAnswers:
    """A new teacher in front, of which nothing is known; the oldest falls out beyond `capacity`."""
    return (answers[0][:0].clone(), *answers)[:capacity] if answers else ()


def after_dropping(answers: RememberedAnswers, dropped: int) -> RememberedAnswers:
    """The pool has lost its `dropped` oldest samples; the copies keep no memory of them."""
    return tuple(logits[dropped:].clone() for logits in answers) if dropped else answers


def completed(
    answers: RememberedAnswers,
    models: Sequence[FlatModel],
    images: Tensor,
    prepared: Callable[[Tensor], Tensor],
) -> tuple[RememberedAnswers, int]:
    """Every teacher's answers for the whole pool, and how many samples were asked for that, over all teachers.

    Args:
        answers: what is known, newest teacher first.
        models: frozen teachers in eval mode, newest first.
        images: the pool, [n, C, H, W] in [0, 1], oldest first.
        prepared: model inputs from images.
    """
    whole, asked = [], 0
    for position, model in enumerate(models):
        known = answers[position] if position < len(answers) else None
        new = images if known is None else images[len(known) :]
        told = [_answered(model, prepared(chunk)) for chunk in torch.split(new, CHUNK)] if len(new) else []
        whole.append(torch.cat(told if known is None else [known, *told]))
        asked += len(new)
    return tuple(whole), asked


@torch.no_grad()
def _answered(model: FlatModel, inputs: Tensor) -> Tensor:
    logits: Tensor = model.module(inputs)
    return logits


class PlannedAnswers:
    """How many samples `completed` will ask, without a network.

    Args:
        teachers: c.
        pool_capacity: samples.
    """

    def __init__(self, teachers: int, pool_capacity: int) -> None:
        self._teachers, self._capacity = teachers, pool_capacity
        self._known: list[int] = []
        self._pool = 0

    def admitted(self) -> None:
        """One more teacher."""
        self._known = [0, *self._known][: self._teachers]

    def appended(self, count: int) -> None:
        """`count` samples more in the pool."""
        dropped = max(0, self._pool + count - self._capacity)
        self._pool = min(self._capacity, self._pool + count)
        self._known = [max(0, known - dropped) for known in self._known]

    def completed(self) -> int:
        """Samples asked, over all teachers."""
        asked = sum(self._pool - known for known in self._known)
        self._known = [self._pool] * len(self._known)
        return asked

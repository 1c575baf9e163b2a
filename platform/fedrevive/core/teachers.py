"""Teachers: the last c client models, how they are probed, weighed and kept ready."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedrevive.core.model_state import FlatModel, ModelSpec

PROBED_UPLOADS = 2
"""Uploads of a client that are probed; its proportions are frozen afterwards (the paper's rule)."""


@dataclass(frozen=True)
class Teacher:
    """A client model kept for distillation."""

    client_id: int
    job: int
    model: Tensor
    """[P + S], never changed in place."""


TeacherBuffer = tuple[Teacher, ...]
"""C: newest first, at most c."""


RememberedAnswers = tuple[Tensor, ...]
"""Logits [m, classes] of the newest teachers for the m oldest samples of the pool, m of each teacher's own; those of
teachers beyond its length, and of samples beyond m, are not known yet."""


def pushed(teachers: TeacherBuffer, teacher: Teacher, capacity: int) -> TeacherBuffer:
    """The buffer with `teacher` in front; the oldest falls out beyond `capacity`."""
    return (teacher, *teachers)[:capacity]


@torch.no_grad()
def probe(model: FlatModel, probes: Tensor, temperature: float) -> Tensor:
    """Mean softmax of the model's answers to noise: [classes] (the paper's class-proportion proxy).

    Args:
        model: the client model, in eval mode.
        probes: model inputs, fed as they are: images [n, C, H, W], standard normal (already in normalised space), or
            token ids [n, L].
        temperature: softmax temperature, > 0.
    """
    logits: Tensor = model.module(probes)  # [n, classes]
    return torch.softmax(logits / temperature, dim=1).mean(dim=0)


def floored(proportions: Tensor, floor: float) -> Tensor:
    """(1 - floor)*pi + floor/classes, [c, classes]: no class is ruled out by a collapsed probe (ours)."""
    return (1.0 - floor) * proportions + floor / proportions.shape[1]


def random_weights(initial: Tensor, spec: ModelSpec, random: torch.Generator) -> Tensor:
    """An untrained network [P + S]: `initial` with the values of every parameter tensor permuted.

    Initial weights are independent and alike within a tensor, so a permutation is as good a draw as any; buffers stay.
    """
    values = initial.clone()
    offset = 0
    for _, shape in spec.parameters:
        count = math.prod(shape)
        order = torch.randperm(count, generator=random, device=initial.device)
        values[offset : offset + count] = initial[offset : offset + count][order]
        offset += count
    return values


@dataclass(frozen=True)
class Ensemble:
    """Teachers ready to be asked: frozen models in eval mode and their class proportions, in one order."""

    models: Sequence[FlatModel]
    proportions: Tensor
    """[c, classes], rows sum to 1."""
    class_weights: bool = True
    """Whether a teacher counts, and is asked, by its proportions; False: all alike (control)."""
    answers: RememberedAnswers = ()
    """Of every teacher for the whole pool, [n, classes] each; () = teachers are asked."""

    def label_weights(self) -> Tensor:
        """w_k(y), [c, classes]."""
        if self.class_weights:
            return label_weights(self.proportions)
        return torch.full_like(self.proportions, 1.0 / len(self.models))


def label_weights(proportions: Tensor) -> Tensor:
    """w_k(y): each teacher's share of the proportions of label y, [c, classes]; columns sum to 1.

    The clamp at 1e-8 keeps a label that no teacher claims at weights near 0 (published example).
    """
    return proportions / proportions.sum(dim=0, keepdim=True).clamp(min=1e-8)


def draw_classes(proportions: Tensor, count: int, random: torch.Generator) -> Tensor:
    """Classes [rows, count], int64, drawn with replacement from each row of `proportions` [rows, classes].

    Inverts the cumulative sum by a product with a triangle of ones: torch.multinomial takes a path on a GPU
    whose sums are not deterministic.
    """
    classes = proportions.shape[1]
    triangle = torch.ones(classes, classes, dtype=torch.float64, device=proportions.device).triu()
    cumulative = proportions.double() @ triangle  # [rows, classes]
    uniform = torch.rand(
        len(proportions), count, dtype=torch.float64, generator=random, device=proportions.device
    )
    found = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    return found.clamp(max=classes - 1)


class TeacherModels:
    """Modules that hold the current teachers, so that an arrival loads one model instead of c.

    A module is reused only for the very tensor it was loaded from; a buffer restored from disk is simply
    loaded again.
    """

    def __init__(self, new_model: Callable[[], FlatModel]) -> None:
        self._new_model = new_model
        self._loaded: list[tuple[Tensor, FlatModel]] = []

    def load(self, teachers: TeacherBuffer) -> list[FlatModel]:
        """Frozen eval-mode models of `teachers`, in their order; valid until the next call."""
        wanted = {id(teacher.model) for teacher in teachers}
        ready = {id(vector): model for vector, model in self._loaded if id(vector) in wanted}
        free = [model for vector, model in self._loaded if id(vector) not in wanted]
        for teacher in teachers:
            if id(teacher.model) not in ready:
                model = free.pop() if free else self._frozen_model()
                model.load(teacher.model)
                ready[id(teacher.model)] = model
        models = [ready[id(teacher.model)] for teacher in teachers]
        self._loaded = [(t.model, m) for t, m in zip(teachers, models, strict=True)]
        return models

    def _frozen_model(self) -> FlatModel:
        model = self._new_model()
        model.module.eval().requires_grad_(False)
        return model

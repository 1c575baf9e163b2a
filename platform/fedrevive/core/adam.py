"""Adam (Kingma and Ba, arXiv:1412.6980) on tensors whose gradients the caller holds.

`torch.optim` gives the same numbers but imports torch's compiler at the first step, a second of start-up in every
worker process, and costs more per step than these few operations on one flat tensor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

EPS = 1e-8


class Adam:
    """Fresh moments for a list of tensors, each with its own learning rate; `step` changes the tensors in place.

    Args:
        tensors: what is optimised.
        learning_rates: one per tensor.
        betas: decay of the first and second moment.
        weight_decay: L2 term added to the gradients.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        learning_rates: Sequence[float],
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
    ) -> None:
        self._tensors = [tensor.detach() for tensor in tensors]
        self._learning_rates = learning_rates
        self._first = [torch.zeros_like(tensor) for tensor in self._tensors]
        self._second = [torch.zeros_like(tensor) for tensor in self._tensors]
        self._betas = betas
        self._weight_decay = weight_decay
        self._steps = 0

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """Move every tensor by one step along its gradient (same shapes, same order)."""
        self._steps += 1
        decay1, decay2 = self._betas
        correction1 = 1 - decay1**self._steps
        correction2 = math.sqrt(1 - decay2**self._steps)
        columns = (self._tensors, gradients, self._first, self._second, self._learning_rates)
        for tensor, gradient, first, second, lr in zip(*columns, strict=True):
            if self._weight_decay:
                gradient = gradient.add(tensor, alpha=self._weight_decay)
            first.lerp_(gradient, 1 - decay1)
            second.mul_(decay2).addcmul_(gradient, gradient, value=1 - decay2)
            scale = second.sqrt().div_(correction2).add_(EPS)
            tensor.addcdiv_(first, scale, value=-lr / correction1)

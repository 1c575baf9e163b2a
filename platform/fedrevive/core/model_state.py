"""A network as one flat float32 vector: parameters first, then feature-statistic buffers.

The vector is what travels, is averaged and is saved. `FlatModel` keeps a module whose parameters, gradients and
buffers are views of flat tensors, so loading a model is one `copy_` and an optimiser step touches one tensor.
Convolution weights lie in the vector in channels-last order, the order the fastest CPU and GPU kernels read.

The one rule for buffers (algorithm.md §5.1): deltas are taken over parameters only. Buffers are never scaled by a
server learning rate; each new server model takes either the trackers' initial values (`reset`, published example) or
a convex average of its own and the clients' buffers (`average`, BatchNorm; ours), which keeps variances >= 0.
Buffers that a module registers as not persistent are constants, such as a pre-trained table: no part of the vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

BufferRule = Literal["reset", "average"]


@dataclass(frozen=True)
class ModelSpec:
    """Names and shapes behind the flat vector."""

    parameters: tuple[tuple[str, tuple[int, ...]], ...]
    buffers: tuple[tuple[str, tuple[int, ...]], ...]
    parameter_count: int
    buffer_count: int
    buffer_rule: BufferRule

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return self.parameter_count + self.buffer_count

    @property
    def running_variances(self) -> NDArray[np.int64]:
        """Where the flat vector holds running variances, ascending."""
        positions, offset = [np.empty(0, np.int64)], self.parameter_count
        for name, shape in self.buffers:
            count = int(np.prod(shape))
            if name.endswith("running_var"):
                positions.append(np.arange(offset, offset + count))
            offset += count
        return np.concatenate(positions)


class FlatModel:
    """A module that lives on flat tensors.

    Args:
        module: network whose buffers are all float (`feature_statistics` removes BatchNorm's integer counter).
        buffer_rule: what a new server model does with its buffers.
        device: where the flat tensors live.
    """

    def __init__(
        self, module: nn.Module, buffer_rule: BufferRule, device: torch.device | str = "cpu"
    ) -> None:
        parameters = [(name, tuple(p.shape)) for name, p in module.named_parameters()]
        kept = module.state_dict().keys()
        travelling = [(name, b) for name, b in module.named_buffers() if name in kept]
        buffers = [(name, tuple(b.shape)) for name, b in travelling]
        integer = [name for name, b in travelling if not b.is_floating_point()]
        if integer:
            raise TypeError(f"buffers {integer} are not float; a flat model holds float32 only")
        count = sum(p.numel() for p in module.parameters())
        self.spec = ModelSpec(
            parameters=tuple(parameters),
            buffers=tuple(buffers),
            parameter_count=count,
            buffer_count=sum(b.numel() for _, b in travelling),
            buffer_rule=buffer_rule,
        )
        self.module = module
        self.vector = torch.empty(self.spec.size, device=device)  # [P + S]
        self.gradient = torch.zeros(count, device=device)  # [P]
        self._adopt()

    @property
    def parameters(self) -> Tensor:
        """Parameters, a view [P]."""
        return self.vector[: self.spec.parameter_count]

    @property
    def buffers(self) -> Tensor:
        """Buffers, a view [S]."""
        return self.vector[self.spec.parameter_count :]

    def load(self, vector: Tensor) -> None:
        """Overwrite the model with `vector` [P + S]; ValueError for any other shape."""
        if vector.shape != self.vector.shape:  # copy_ would broadcast a single value over the whole model
            raise ValueError(f"vector is {list(vector.shape)}, this model is {list(self.vector.shape)}")
        self.vector.copy_(vector)

    def load_array(self, vector: NDArray[np.float32]) -> None:
        """`load` for an array in host memory, which may be read-only."""
        if self.vector.device.type != "cpu":
            self.load(torch.from_numpy(vector.copy()))
        elif vector.shape != self.vector.shape:
            raise ValueError(f"vector is {list(vector.shape)}, this model is {list(self.vector.shape)}")
        else:
            np.copyto(self.vector.numpy(), vector)

    def state_dict(self) -> dict[str, Tensor]:
        """Named copies in the module's ordinary shapes and memory order."""
        return {name: value.detach().clone().contiguous() for name, value in self.module.state_dict().items()}

    def _adopt(self) -> None:
        offset = 0
        for parameter in self.module.parameters():
            values = _view(self.vector, offset, parameter.shape)
            values.copy_(parameter.data)
            parameter.data = values
            parameter.grad = _view(self.gradient, offset, parameter.shape)
            offset += parameter.numel()
        kept = self.module.state_dict().keys()
        for path, module in self.module.named_modules():
            for name, buffer in module.named_buffers(recurse=False):
                if f"{path}.{name}".lstrip(".") not in kept:
                    setattr(module, name, buffer.to(self.vector.device))
                    continue
                values = _view(self.vector, offset, buffer.shape)
                values.copy_(buffer)
                setattr(module, name, values)
                offset += buffer.numel()


def _view(vector: Tensor, offset: int, shape: torch.Size) -> Tensor:
    flat = vector[offset : offset + shape.numel()]
    if len(shape) == 4:
        out_channels, in_channels, height, width = shape
        return flat.view(out_channels, height, width, in_channels).permute(0, 3, 1, 2)
    return flat.view(shape)

"""State records as plain JSON structure plus named arrays, and back: what snapshots are made of.

A state consists of frozen dataclasses, tensors, ints, floats, bools, strings, None, tuples and dicts with int or str
keys. Floats go through JSON exactly (shortest repr); tensors keep dtype and shape.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Arrays = dict[str, NDArray[np.generic]]


def encode(tree: Any) -> tuple[Any, Arrays]:
    """Split `tree` into a JSON-able structure and its arrays (copied to host memory).

    Raises:
        TypeError: a value is of another type than the module docstring lists.
    """
    arrays: Arrays = {}
    return _encode(tree, arrays), arrays


def decode(
    structure: Any, arrays: Mapping[str, NDArray[np.generic]], types: Iterable[type], device: torch.device
) -> Any:
    """Rebuild what `encode` split.

    Args:
        structure: first value of `encode`, possibly through JSON.
        arrays: second value of `encode`.
        types: the dataclasses that may occur.
        device: where tensors go.

    Raises:
        KeyError: the structure names an unknown dataclass or a missing array.
    """
    return _Decoder(arrays, {kind.__name__: kind for kind in types}, device).decode(structure)


def _encode(value: Any, arrays: Arrays) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        name = f"t{len(arrays):06d}"
        arrays[name] = value.detach().to("cpu", copy=True).contiguous().numpy()
        return {"tensor": name}
    if isinstance(value, tuple):
        return {"tuple": [_encode(item, arrays) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[key, _encode(item, arrays)] for key, item in value.items()]}
    if dataclasses.is_dataclass(value):
        fields = {f.name: _encode(getattr(value, f.name), arrays) for f in dataclasses.fields(value)}
        return {"record": type(value).__name__, "fields": fields}
    raise TypeError(f"{type(value).__name__} cannot be part of a server state")


@dataclasses.dataclass(frozen=True)
class _Decoder:
    arrays: Mapping[str, NDArray[np.generic]]
    types: Mapping[str, type]
    device: torch.device

    def decode(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if "tensor" in value:
            return torch.from_numpy(np.array(self.arrays[value["tensor"]])).to(self.device)
        if "tuple" in value:
            return tuple(self.decode(item) for item in value["tuple"])
        if "dict" in value:
            return {key: self.decode(item) for key, item in value["dict"]}
        fields = {name: self.decode(item) for name, item in value["fields"].items()}
        return self.types[value["record"]](**fields)

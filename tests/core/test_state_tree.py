import json
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from fedrevive.core.state_tree import decode, encode


@dataclass(frozen=True)
class Inner:
    weights: torch.Tensor
    names: dict[int, tuple[float, ...]]


@dataclass(frozen=True)
class Outer:
    inner: Inner
    count: int
    missing: Any


def test_state_survives_json_and_arrays():
    outer = Outer(Inner(torch.randn(2, 3), {7: (0.1, 1e-300), -1: ()}), 3, None)
    structure, arrays = encode(outer)
    back = decode(json.loads(json.dumps(structure)), arrays, (Inner, Outer), torch.device("cpu"))
    assert torch.equal(back.inner.weights, outer.inner.weights)
    assert (back.inner.names, back.count, back.missing) == (outer.inner.names, 3, None)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64, torch.uint8, torch.bool])
def test_tensors_keep_dtype_and_shape(dtype):
    tensor = torch.ones(0, 4, dtype=dtype)
    structure, arrays = encode((tensor,))
    (back,) = decode(structure, arrays, (), torch.device("cpu"))
    assert (back.dtype, back.shape) == (dtype, (0, 4))


def test_arrays_do_not_alias_the_state():
    tensor = torch.zeros(3)
    _, arrays = encode(tensor)
    tensor.add_(1)
    assert arrays["t000000"].sum() == 0


def test_unknown_values_are_refused():
    with pytest.raises(TypeError, match="set cannot be part"):
        encode({"a": {1, 2}})

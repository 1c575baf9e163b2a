"""Tensors on disk: safetensors files written straight from memory.

The library's own `safetensors.numpy.save` makes two more copies of everything; a resume state may be most
of the memory. The layout is the published one (8-byte little-endian header length, JSON header, raw
values).
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

Tensors = dict[str, NDArray[Any]]

_DTYPES = {
    "<f8": "F64",
    "<f4": "F32",
    "<f2": "F16",
    "<i8": "I64",
    "<i4": "I32",
    "<i2": "I16",
    "|i1": "I8",
    "<u8": "U64",
    "<u4": "U32",
    "<u2": "U16",
    "|u1": "U8",
    "|b1": "BOOL",
}


def tensor_chunks(tensors: Mapping[str, NDArray[Any]]) -> Iterator[bytes | memoryview]:
    """Content of a safetensors file in pieces; arrays that lie in C order are not copied.

    Raises:
        TypeError: an array is neither little-endian number nor bool.
    """
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, dict[str, Any]] = {}
    offset = 0
    for name in names:
        array = tensors[name]
        if array.dtype.str not in _DTYPES:
            raise TypeError(f"tensor {name!r} has dtype {array.dtype}; allowed are {', '.join(_DTYPES)}")
        header[name] = {
            "dtype": _DTYPES[array.dtype.str],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the values start aligned
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        yield contiguous_bytes(tensors[name])


def load_tensors(path: Path) -> Tensors:
    """All tensors of a safetensors file.

    Raises:
        FileNotFoundError: with the file's name, which the library leaves out.
        safetensors.SafetensorError: it is no such file.
    """
    try:
        return dict(load_file(path))
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error


def contiguous_bytes(array: NDArray[Any]) -> memoryview:
    """The array's bytes in C order, copied only when it does not lie so."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data

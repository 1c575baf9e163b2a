"""Files in MNIST's idx format: two zero bytes, a type, the number of dimensions, each as a big-endian uint32, values.

A file may be packed; its name then ends in .gz or .xz.
"""

from __future__ import annotations

import gzip
import lzma
import math
import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from fedrevive.tasks.torchvision_files import corrupt

UINT8, INT32 = 8, 12
SUFFIXES = ("", ".gz", ".xz")
_TYPES: dict[int, np.dtype[Any]] = {UINT8: np.dtype(np.uint8), INT32: np.dtype(">i4")}


_UNPACKING = (gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError)


def check_idx_pair(images: Path, labels: Path, side: int) -> None:
    """Judge images and their labels by their headers.

    Raises:
        UserError: one is something else, or they do not belong together (exit code 3).
    """
    count, *sides = _shape(images, 3, UINT8)
    if sides != [side, side]:
        raise corrupt(images, f"images of {sides[0]}x{sides[1]}, expected {side}x{side}")
    if _shape(labels, 1, UINT8) != [count]:
        raise corrupt(labels, f"expected one label for each of {count} images")


def read_idx(path: Path, dimensions: int, kind: int) -> NDArray[np.int32]:
    """Values of a file, as int32.

    Raises:
        UserError: the file is something else (exit code 3).
    """
    shape = _shape(path, dimensions, kind)
    try:
        with _opened(path) as file:
            raw = file.read()
    except _UNPACKING as error:
        raise corrupt(path, f"cannot be unpacked: {error}") from None
    start = 4 + 4 * dimensions
    if len(raw) != start + math.prod(shape) * _TYPES[kind].itemsize:
        raise corrupt(path, f"{len(raw)} bytes do not fit its header")
    return np.frombuffer(raw, _TYPES[kind], offset=start).reshape(shape).astype(np.int32)


def _opened(path: Path) -> BinaryIO:
    match path.suffix:
        case ".gz":
            return cast(BinaryIO, gzip.open(path))
        case ".xz":
            return cast(BinaryIO, lzma.open(path))
    return path.open("rb")


def _shape(path: Path, dimensions: int, kind: int) -> list[int]:
    """From the header, which must agree with the size of a file that is not packed."""
    start = 4 + 4 * dimensions
    try:
        with _opened(path) as file:
            header = file.read(start)
    except _UNPACKING as error:
        raise corrupt(path, f"cannot be unpacked: {error}") from None
    if len(header) < start or header[:4] != bytes([0, 0, kind, dimensions]):
        raise corrupt(path, f"no idx header of {_TYPES[kind].name} with {dimensions} dimensions")
    shape = [int.from_bytes(header[at : at + 4], "big") for at in range(4, start, 4)]
    size, expected = os.path.getsize(path), start + math.prod(shape) * _TYPES[kind].itemsize
    if 0 in shape or (path.suffix not in SUFFIXES[1:] and size != expected):
        raise corrupt(path, f"{size} bytes, its header says {expected}")
    return shape

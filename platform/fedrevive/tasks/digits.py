"""scikit-learn's handwritten digits, plain and under random affine maps.

1,797 images of 8x8 pixels with 17 grey levels (Alpaydin and Kaynak, UCI "Optical Recognition of Handwritten
Digits", test part). They ship with scikit-learn, so both tasks run without any download.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedrevive.tasks.federated import SPLIT_SEED, Split, Splits, TaskInfo, split_indices

INFO = TaskInfo("digits", (1, 8, 8), 10, mean=(0.3052,), std=(0.3763,))
AFFINE_INFO = TaskInfo("digits_affine", (1, 12, 12), 10, mean=(0.1390,), std=(0.2600,))

PERCENT = (60, 15, 5, 20)
"""Train, validation, KD, test. Ours: there is no official test part."""
GREY_LEVELS = 16
CANVAS = 12
COPIES = 4
"""Affine copies of each original. Ours; all of them lie in the same part."""
MAX_ROTATION = 0.4
"""Radians."""
MAX_LOG_SCALE = 0.2
MAX_SHEAR = 0.25
MAX_SHIFT = 1.5
"""Pixels. These four: ours, set so that the default CNN reaches about 88 % when trained centrally."""


def load_digits() -> Splits:
    """Plain digits: 1,078 train, 269 validation, 90 KD and 360 test images [n, 1, 8, 8]."""
    images, labels = _originals()
    whole = Split(np.rint(images * (255 / GREY_LEVELS)).astype(np.uint8)[:, None], labels)
    return Splits(*(whole.take(part) for part in split_indices(len(labels), PERCENT)))


def load_digits_affine() -> Splits:
    """Digits on a 12x12 canvas, each in four random poses: four times the sizes of the plain task."""
    images, labels = _originals()
    posed = affine_copies(images * (255 / GREY_LEVELS))  # [n, copies, 12, 12]
    parts = []
    for part in split_indices(len(labels), PERCENT):
        part_images = posed[part].reshape(-1, 1, CANVAS, CANVAS)
        parts.append(Split(part_images, labels[part].repeat(COPIES)))
    return Splits(*parts)


def affine_copies(images: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Every image under `COPIES` random affine maps: [n, H, W] -> [n, COPIES, CANVAS, CANVAS].

    Rotation, log-scale, shear and shift are uniform and symmetric about zero, drawn once and for all from the
    split seed; row i of the draws belongs to image i. Bilinear, zero outside the image.
    """
    from scipy.ndimage import map_coordinates

    count, height, width = images.shape
    draws = np.random.Generator(np.random.Philox(SPLIT_SEED)).uniform(-1, 1, (count, COPIES, 5))
    inverse = _inverse_maps(draws[..., :3])  # [n, copies, 2, 2]
    axis = np.arange(CANVAS) - (CANVAS - 1) / 2
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij")).reshape(2, -1)  # [2, pixels], from the centre
    points = grid - MAX_SHIFT * draws[..., 3:, None]  # [n, copies, 2, pixels]
    centre = np.array([[(height - 1) / 2], [(width - 1) / 2]])
    rows, columns = np.moveaxis(inverse @ points + centre, 2, 0)  # [n, copies, pixels] each
    sample = np.broadcast_to(np.arange(count)[:, None, None], rows.shape)
    values = map_coordinates(images, np.stack([sample, rows, columns]), order=1, mode="grid-constant")
    return np.rint(values).astype(np.uint8).reshape(count, COPIES, CANVAS, CANVAS)


def _originals() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Images [n, 8, 8] in 0..16 and labels [n], from the file scikit-learn ships.

    `sklearn.datasets.load_digits` gives the same (the tests compare), at the price of importing all of scikit-learn
    and pandas: a second and 170 MB in the process that drives every run.
    """
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    table = np.loadtxt(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)


def _inverse_maps(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Maps from canvas to image: [..., 3] uniform draws -> [..., 2, 2]."""
    angle, scale, shear = (
        draws[..., 0] * MAX_ROTATION,
        np.exp(draws[..., 1] * MAX_LOG_SCALE),
        draws[..., 2] * MAX_SHEAR,
    )
    cosine, sine = np.cos(angle), np.sin(angle)
    forward = np.empty((*draws.shape[:-1], 2, 2))
    forward[..., 0, 0] = scale * cosine
    forward[..., 0, 1] = scale * (shear * cosine - sine)
    forward[..., 1, 0] = scale * sine
    forward[..., 1, 1] = scale * (shear * sine + cosine)
    return np.linalg.inv(forward)

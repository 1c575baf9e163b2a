"""FEMNIST (Caldas et al., "LEAF", arXiv:1812.01097): handwritten digits and letters with the person who wrote them.

Two forms can be read: the JSON folders that LEAF's `data/femnist/preprocess.sh` writes, and Parquet files with columns
`image` (PNG), `writer_id` and `character`, as the data set `flwrlabs/femnist` has them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedrevive.settings.errors import UserError, shown
from fedrevive.settings.task import FemnistTask
from fedrevive.tasks.federated import SPLIT_SEED, Split, Splits, TaskInfo
from fedrevive.tasks.leaf_files import json_files, users
from fedrevive.tasks.torchvision_files import corrupt

CLASSES = 62
SIDE = 28
INFO = TaskInfo("femnist", (1, SIDE, SIDE), CLASSES, mean=(0.9637,), std=(0.1592,))
PERCENT = (60, 15, 15, 10)
"""Train, validation, test and KD shares. Published; ours: of each writer, so that everybody can train."""
REMEDY = "make it again with LEAF's data/femnist/preprocess.sh, or fetch flwrlabs/femnist again"

Written = tuple[str, NDArray[np.uint8], NDArray[np.int64]]
"""A writer's name, images [n, 28, 28] and labels [n]."""


def load(settings: FemnistTask, may_download: bool) -> Splits:
    """Read `task.clients` of the writers, the same ones for every seed.

    Raises:
        UserError: files that are missing or fewer writers than clients (exit code 2), corrupt files (3).
    """
    del may_download  # there is no place that torchvision knows
    check(settings)
    files = _parquet_files(settings)
    written = _from_parquet(files, settings) if files else _from_leaf(settings)
    images, labels, owners, part = [], [], [], []
    for owner, (_, its_images, its_labels) in enumerate(written):
        images.append(its_images)
        labels.append(its_labels)
        owners.append(np.full(len(its_labels), owner))
        part.append(_parts(len(its_labels), owner))
    pool = Split(np.concatenate(images)[:, None], np.concatenate(labels))
    train, validation, test, kd = (np.flatnonzero(np.concatenate(part) == number) for number in range(4))
    return Splits(
        *(pool.take(each) for each in (train, validation, kd, test)),
        train_owners=np.concatenate(owners)[train],
    )


def check(settings: FemnistTask) -> None:
    """Look whether there are files.

    Raises:
        UserError: there are none (exit code 2).
    """
    if not (_parquet_files(settings) or json_files(_folder(settings))):
        raise UserError(
            f"task.data_dir: {shown(settings.data_dir)} has no FEMNIST; run LEAF's data/femnist/preprocess.sh and put "
            "its data/train and data/test below femnist/, or the Parquet files of flwrlabs/femnist; looked in "
            f"{_folder(settings).absolute()}"
        )


def _folder(settings: FemnistTask) -> Path:
    return Path(settings.data_dir).expanduser() / "femnist"


def _parquet_files(settings: FemnistTask) -> list[Path]:
    folder = _folder(settings)
    return sorted(folder.glob("*.parquet")) or sorted((folder / "data").glob("*.parquet"))


def _parts(count: int, owner: int) -> NDArray[np.int64]:
    """Which part each of a writer's samples belongs to, [count]; the first one, train, is never empty."""
    shuffled = np.random.Generator(np.random.Philox([SPLIT_SEED, owner])).permutation(count)
    return np.searchsorted(np.cumsum(PERCENT)[:-1], (100 * shuffled + 50) // count, side="right")


def _chosen(names: list[str], clients: int) -> list[str]:
    """The writers that take part.

    Raises:
        UserError: there are fewer than clients.
    """
    if clients > len(names):
        raise UserError(
            f"task.clients: {clients} is more than the {len(names)} writers in task.data_dir; lower it"
        )
    order = np.random.Generator(np.random.Philox(SPLIT_SEED)).permutation(len(names))
    return [names[index] for index in order[:clients]]


def _from_leaf(settings: FemnistTask) -> Iterator[Written]:
    found: dict[str, list[tuple[NDArray[np.uint8], NDArray[np.int64]]]] = {}
    for path in json_files(_folder(settings)):
        for name, inputs, targets in users(path, REMEDY):
            found.setdefault(name, []).append((_pixels(path, inputs), _labels(path, targets)))
    for name in _chosen(sorted(found), settings.clients):
        images, labels = zip(*found[name], strict=True)
        yield name, np.concatenate(images), np.concatenate(labels)


def _pixels(path: Path, inputs: object) -> NDArray[np.uint8]:
    """LEAF's rows of 784 numbers in [0, 1] as images [n, 28, 28]."""
    try:
        rows = np.asarray(inputs, np.float64)
    except (TypeError, ValueError):
        rows = np.empty(0)
    if rows.ndim != 2 or rows.shape[1] != SIDE * SIDE or not ((rows >= 0) & (rows <= 1)).all():
        raise corrupt(path, f"an image is not {SIDE * SIDE} numbers from 0 to 1", REMEDY)
    return np.rint(rows * 255).astype(np.uint8).reshape(-1, SIDE, SIDE)


def _labels(path: Path, targets: object) -> NDArray[np.int64]:
    labels = np.asarray(targets)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= CLASSES:
        raise corrupt(path, f"a label is no integer from 0 to {CLASSES - 1}", REMEDY)
    return labels.astype(np.int64)


def _from_parquet(files: list[Path], settings: FemnistTask) -> Iterator[Written]:
    import pyarrow as pa
    import pyarrow.compute as pc

    from fedrevive.core.parquet_file import read_parquet

    columns = ["image", "writer_id", "character"]
    pieces = []
    for path in files:
        try:
            pieces.append(read_parquet(path, columns))
        except (pa.ArrowException, KeyError, OSError) as error:
            raise corrupt(path, f"no table with {', '.join(columns)}: {str(error)[:60]}", REMEDY) from None
    rows = pa.concat_tables(pieces, promote_options="permissive")
    names = _chosen(sorted(pc.unique(rows["writer_id"]).to_pylist()), settings.clients)
    for name in names:
        its = rows.filter(pc.equal(rows["writer_id"], name))
        images = np.stack([_decoded(files[0], cell) for cell in its["image"].to_pylist()])
        yield name, images, _labels(files[0], its["character"].to_numpy())


def _decoded(path: Path, cell: dict[str, bytes]) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    try:
        image = np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("L"))
    except (UnidentifiedImageError, OSError, TypeError, KeyError):
        raise corrupt(path, "an image cannot be decoded", REMEDY) from None
    if image.shape != (SIDE, SIDE):
        raise corrupt(path, f"an image of {image.shape[0]}x{image.shape[1]}, expected {SIDE}x{SIDE}", REMEDY)
    return image

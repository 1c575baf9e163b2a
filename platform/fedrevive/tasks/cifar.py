"""CIFAR-10 and CIFAR-100 (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009): the files that
torchvision keeps, which are pickles, so nothing is read before it is what was published.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedrevive.settings.errors import UserError
from fedrevive.tasks.federated import Split, Splits, split_indices
from fedrevive.tasks.torchvision_files import average_pool, corrupt, download, require

SIDE = 32
PERCENT = (75, 15, 10)
"""Train, validation and KD shares of the official training part. Published example."""


@dataclass(frozen=True)
class Published:
    """One of the two data sets as it was published."""

    title: str
    dataset: str
    """Name of the class in torchvision.datasets."""
    folder: str
    """Below torchvision's root."""
    files: Mapping[str, tuple[int, str]]
    """Name -> bytes and published MD5. Nothing else may ever reach the reader."""


def load(published: Published, data_dir: str, side: int, may_download: bool) -> Splits:
    """Read the files below `data_dir`, images averaged to `side` pixels.

    Raises:
        UserError: files that are missing (exit code 2), corrupt (3) or could not be downloaded (5).
    """
    root = Path(data_dir).expanduser()
    try:
        _verify(published, data_dir)
    except UserError:
        if not may_download:
            raise
        _download(published, root)
        _verify(published, data_dir)
    official = _read(published, root, train=True, side=side)
    train, validation, kd = (official.take(part) for part in split_indices(len(official), PERCENT))
    return Splits(train, validation, kd, test=_read(published, root, train=False, side=side))


def check(published: Published, data_dir: str) -> None:
    """Judge the files by their names and sizes.

    Raises:
        UserError: files that are missing (exit code 2) or corrupt (3).
    """
    folder = Path(data_dir).expanduser() / published.folder
    require([folder / name for name in published.files], data_dir, published.dataset, published.title)
    for name, (size, _) in published.files.items():
        found = (folder / name).stat().st_size
        if found != size:
            raise corrupt(folder / name, f"{found} bytes, published {size}")


def _download(published: Published, root: Path) -> None:
    """Fetch and unpack the archive; torchvision's own `download=True` never replaces a lost file of names."""
    from torchvision.datasets.utils import download_and_extract_archive

    source = _reader(published)
    download(
        lambda: download_and_extract_archive(
            source.url, str(root), filename=source.filename, md5=source.tgz_md5
        ),
        published.title,
    )


def _verify(published: Published, data_dir: str) -> None:
    """`check`, and every file's content against its published digest."""
    check(published, data_dir)
    folder = Path(data_dir).expanduser() / published.folder
    for name, (_, expected) in published.files.items():
        with (folder / name).open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != expected:
            raise corrupt(folder / name, f"MD5 {found}, published {expected}")


def _read(published: Published, root: Path, train: bool, side: int) -> Split:
    dataset = _reader(published)(str(root), train=train, download=False)
    images = np.ascontiguousarray(dataset.data.transpose(0, 3, 1, 2))  # [n, 3, 32, 32], as in the files
    return Split(images if side == SIDE else average_pool(images), np.asarray(dataset.targets, np.int64))


def _reader(published: Published) -> Any:
    from torchvision import datasets

    return getattr(datasets, published.dataset)

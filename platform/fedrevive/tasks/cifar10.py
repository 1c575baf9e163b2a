"""CIFAR-10 (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009) from torchvision's files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from fedrevive.settings.errors import UserError
from fedrevive.settings.task import Cifar10Task
from fedrevive.tasks.federated import Split, Splits, TaskInfo, split_indices
from fedrevive.tasks.torchvision_files import average_pool, corrupt, download, require

NAME, TITLE, DATASET = "cifar10", "CIFAR-10", "CIFAR10"
CLASSES = 10
SIDE = 32
PERCENT = (75, 15, 10)
"""Train, validation and KD shares of the official training part. Published example."""
MOMENTS = {
    32: ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    16: ((0.4919, 0.4825, 0.4465), (0.2382, 0.2346, 0.2535)),
}
"""Image side -> mean and standard deviation of each channel. 32: published example, whose standard deviations are means
over images; 16: the train part's own."""
FOLDER = "cifar-10-batches-py"
FILES = {
    "data_batch_1": (31_035_704, "c99cafc152244af753f735de768cd75f"),
    "data_batch_2": (31_035_320, "d4bba439e000b95fd0a9bffe97cbabec"),
    "data_batch_3": (31_035_999, "54ebc095f3ab1f0389bbae665268c751"),
    "data_batch_4": (31_035_696, "634d18415352ddfa80567beed471001a"),
    "data_batch_5": (31_035_623, "482c414d41f54cd18b22e5b47cb7c3cb"),
    "test_batch": (31_035_526, "40351d587109b95175f43aff81a1287e"),
    "batches.meta": (158, "5ff9c542aee3614f3951f8cda6e48888"),
}
"""Name -> bytes and published MD5. The files are pickles: nothing else may ever reach the reader."""


def info(settings: Cifar10Task) -> TaskInfo:
    """Shapes, classes and normalisation, at the chosen image size."""
    side = settings.image_size
    mean, std = MOMENTS[side]
    return TaskInfo(NAME, (3, side, side), CLASSES, mean, std)


def load(settings: Cifar10Task, may_download: bool) -> Splits:
    """Read the seven files below `data_dir`.

    Raises:
        UserError: files that are missing (exit code 2), corrupt (3) or could not be downloaded (5).
    """
    root = Path(settings.data_dir).expanduser()
    try:
        _verify(settings)
    except UserError:
        if not may_download:
            raise
        _download(root)
        _verify(settings)
    official = _read(root, train=True, side=settings.image_size)
    train, validation, kd = (official.take(part) for part in split_indices(len(official), PERCENT))
    return Splits(train, validation, kd, test=_read(root, train=False, side=settings.image_size))


def check(settings: Cifar10Task) -> None:
    """Judge the files by their names and sizes.

    Raises:
        UserError: files that are missing (exit code 2) or corrupt (3).
    """
    folder = Path(settings.data_dir).expanduser() / FOLDER
    require([folder / name for name in FILES], settings.data_dir, DATASET, TITLE)
    for name, (size, _) in FILES.items():
        found = (folder / name).stat().st_size
        if found != size:
            raise corrupt(folder / name, f"{found} bytes, published {size}")


def _download(root: Path) -> None:
    """Fetch and unpack the archive; torchvision's own `download=True` never replaces a lost `batches.meta`."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_and_extract_archive

    download(
        lambda: download_and_extract_archive(
            CIFAR10.url, str(root), filename=CIFAR10.filename, md5=CIFAR10.tgz_md5
        ),
        TITLE,
    )


def _verify(settings: Cifar10Task) -> None:
    """`check`, and every file's content against its published digest."""
    check(settings)
    folder = Path(settings.data_dir).expanduser() / FOLDER
    for name, (_, published) in FILES.items():
        with (folder / name).open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != published:
            raise corrupt(folder / name, f"MD5 {found}, published {published}")


def _read(root: Path, train: bool, side: int) -> Split:
    from torchvision.datasets import CIFAR10

    dataset = CIFAR10(str(root), train=train, download=False)
    images = np.ascontiguousarray(dataset.data.transpose(0, 3, 1, 2))  # [n, 3, 32, 32], as in the files
    return Split(images if side == SIDE else average_pool(images), np.asarray(dataset.targets, np.int64))

"""MNIST (LeCun et al., 1998) with the person who wrote each digit, as QMNIST traced them (Yadav and Bottou, "Cold Case:
the Lost MNIST Digits", NeurIPS 2019). Writers of the test part wrote nothing of the training part.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedrevive.settings.errors import UserError, shown
from fedrevive.settings.task import MnistWritersTask
from fedrevive.tasks.federated import Split, Splits, TaskInfo, split_indices
from fedrevive.tasks.idx_files import INT32, SUFFIXES, UINT8, check_idx_pair, read_idx
from fedrevive.tasks.torchvision_files import average_pool, corrupt, download

NAME, TITLE = "mnist_writers", "MNIST"
CLASSES = 10
SIDE = 28
PERCENT = (75, 15, 10)
"""Train, validation and KD shares of the official training part. Published example (CIFAR-10)."""
MOMENTS = {28: ((0.1305,), (0.3079,)), 14: ((0.1306,), (0.2801,))}
"""Image side -> mean and standard deviation of the train part."""
COMPACT = "qmnist_writer_labels.npz"
"""Both parts of QMNIST's labels in one file: arrays `train` and `test`, rows in MNIST's order."""
COLUMNS = 8
"""Of QMNIST's labels: 0 is the digit, 2 its writer."""
WRITER = 2


def info(settings: MnistWritersTask) -> TaskInfo:
    """Shapes, classes and normalisation, at the chosen image size."""
    side = settings.image_size
    mean, std = MOMENTS[side]
    return TaskInfo(NAME, (1, side, side), CLASSES, mean, std)


def load(settings: MnistWritersTask, may_download: bool) -> Splits:
    """Read images, labels and writers below `data_dir`.

    Raises:
        UserError: files that are missing (exit code 2), corrupt (3) or could not be downloaded (5).
    """
    if may_download:
        _download(Path(settings.data_dir).expanduser())
    check(settings)
    official, writers = _read(settings, "train")
    test, _ = _read(settings, "t10k")
    parts = split_indices(len(official), PERCENT)
    train, validation, kd = (official.take(part) for part in parts)
    return Splits(train, validation, kd, test, train_owners=writers[parts[0]])


def check(settings: MnistWritersTask) -> None:
    """Judge the files by their names and headers.

    Raises:
        UserError: files that are missing (exit code 2) or corrupt (3).
    """
    for part in ("train", "t10k"):
        check_idx_pair(*_images_and_labels(settings, part), SIDE)
        _writers_file(settings, part)


def _read(settings: MnistWritersTask, part: str) -> tuple[Split, NDArray[np.int64]]:
    """A part and the writer of each image."""
    images_file, labels_file = _images_and_labels(settings, part)
    images = read_idx(images_file, 3, UINT8).astype(np.uint8)
    labels = read_idx(labels_file, 1, UINT8).astype(np.int64)
    if labels.max() >= CLASSES:
        raise corrupt(labels_file, f"label {labels.max()}, expected 0 to {CLASSES - 1}")
    writers_file = _writers_file(settings, part)
    found = (
        _from_compact(writers_file, "train" if part == "train" else "test")
        if writers_file.name == COMPACT
        else read_idx(writers_file, 2, INT32)[: len(labels)]  # QMNIST found 50,000 more test digits
    )
    if found.shape != (len(labels), COLUMNS) or (found[:, 0] != labels).any():
        raise corrupt(writers_file, f"its digits are not the labels of {labels_file.name}")
    if settings.image_size != SIDE:
        images = average_pool(images)
    return Split(images[:, None], labels), found[:, WRITER].astype(np.int64)


def _from_compact(path: Path, name: str) -> NDArray[np.int32]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            rows = np.lib.format.read_array(file, allow_pickle=False)
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise corrupt(path, f"no array {name}: {error}") from None
    return np.asarray(rows, np.int32)


def _images_and_labels(settings: MnistWritersTask, part: str) -> tuple[Path, Path]:
    images, labels = (
        _found(settings, "MNIST", [f"{part}-{kind}-ubyte"]) for kind in ("images-idx3", "labels-idx1")
    )
    return images, labels


def _writers_file(settings: MnistWritersTask, part: str) -> Path:
    official = f"qmnist-{'train' if part == 'train' else 'test'}-labels-idx2-int"
    return _found(settings, "QMNIST", [official, COMPACT])


def _found(settings: MnistWritersTask, dataset: str, names: list[str]) -> Path:
    """The first of the files that is there, in torchvision's folder or in `data_dir` itself.

    Raises:
        UserError: none is (exit code 2).
    """
    root = Path(settings.data_dir).expanduser()
    raw = root / dataset / "raw"
    for folder in (raw, root):
        for name in names:
            for suffix in SUFFIXES:
                if (folder / f"{name}{suffix}").is_file():
                    return folder / f"{name}{suffix}"
    call = (
        f'QMNIST(root, what="{"train" if "train" in names[0] else "test"}", '
        if dataset == "QMNIST"
        else "MNIST(root, "
    )
    raise UserError(
        f"task.data_dir: {shown(settings.data_dir)} lacks {names[0]}; add --download, or call "
        f"torchvision.datasets.{call}download=True) with it; looked in {raw.absolute()}"
    )


def _download(root: Path) -> None:
    from torchvision.datasets import MNIST, QMNIST

    download(lambda: MNIST(str(root), download=True), TITLE)
    for what in ("train", "test"):
        download(lambda what=what: QMNIST(str(root), what=what, download=True), "QMNIST")  # type: ignore[misc]

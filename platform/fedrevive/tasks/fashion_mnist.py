"""Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv:1708.07747) from the files that torchvision keeps."""

from __future__ import annotations

from pathlib import Path

from fedrevive.settings.task import FashionMnistTask
from fedrevive.tasks.federated import Split, Splits, TaskInfo, split_indices
from fedrevive.tasks.idx_files import check_idx_pair
from fedrevive.tasks.torchvision_files import average_pool, corrupt, download, require

NAME, TITLE, DATASET = "fashion_mnist", "Fashion-MNIST", "FashionMNIST"
CLASSES = 10
SIDE = 28
PERCENT = (75, 15, 10)
"""Train, validation and KD shares of the official training part. Published example (CIFAR-10)."""
MOMENTS = {28: ((0.2859,), (0.3531,)), 14: ((0.2862,), (0.3304,))}
"""Image side -> mean and standard deviation of the train part."""


def info(settings: FashionMnistTask) -> TaskInfo:
    """Shapes, classes and normalisation, at the chosen image size."""
    side = settings.image_size
    mean, std = MOMENTS[side]
    return TaskInfo(NAME, (1, side, side), CLASSES, mean, std)


def load(settings: FashionMnistTask, may_download: bool) -> Splits:
    """Read the four files below `data_dir`.

    Raises:
        UserError: files that are missing (exit code 2), corrupt (3) or could not be downloaded (5).
    """
    root = Path(settings.data_dir).expanduser()
    if may_download:
        _download(root)
    check(settings)
    official = _read(root, train=True, side=settings.image_size)
    train, validation, kd = (official.take(part) for part in split_indices(len(official), PERCENT))
    return Splits(train, validation, kd, test=_read(root, train=False, side=settings.image_size))


def check(settings: FashionMnistTask) -> None:
    """Judge the files by their names and headers.

    Raises:
        UserError: files that are missing (exit code 2) or corrupt (3).
    """
    raw = Path(settings.data_dir).expanduser() / "FashionMNIST" / "raw"
    for part in ("train", "t10k"):
        images, labels = raw / f"{part}-images-idx3-ubyte", raw / f"{part}-labels-idx1-ubyte"
        require([images, labels], settings.data_dir, DATASET, TITLE)
        check_idx_pair(images, labels, SIDE)


def _read(root: Path, train: bool, side: int) -> Split:
    from torchvision.datasets import FashionMNIST

    dataset = FashionMNIST(str(root), train=train, download=False)
    images = dataset.data.numpy() if side == SIDE else average_pool(dataset.data.numpy())
    labels = dataset.targets.numpy()
    if labels.max() >= CLASSES:
        name = f"{'train' if train else 't10k'}-labels-idx1-ubyte"
        raise corrupt(Path(dataset.raw_folder) / name, f"label {labels.max()}, expected 0 to {CLASSES - 1}")
    return Split(images[:, None], labels)


def _download(root: Path) -> None:
    from torchvision.datasets import FashionMNIST

    download(lambda: FashionMNIST(str(root), download=True), TITLE)

"""CIFAR-100: a hundred classes of colour photographs, 600 images of each (`tasks.cifar`)."""

from __future__ import annotations

from fedrevive.settings.task import Cifar100Task
from fedrevive.tasks import cifar
from fedrevive.tasks.federated import Splits, TaskInfo

CLASSES = 100
MEAN, STD = (0.507, 0.487, 0.441), (0.268, 0.257, 0.276)
"""Of each channel. Published."""
FOLDER = "cifar-100-python"
FILES = {
    "train": (155_249_918, "16019d7e3df5f24257cddd939b257f8d"),
    "test": (31_049_707, "f0ef6b0ae62326f3e7ffdfab6717acfc"),
    "meta": (1_473, "7973b15100ade9c7d40fb424638fde48"),
}


def info(settings: Cifar100Task) -> TaskInfo:
    """Shapes, classes and normalisation."""
    return TaskInfo(settings.name, (3, cifar.SIDE, cifar.SIDE), CLASSES, MEAN, STD)


def load(settings: Cifar100Task, may_download: bool) -> Splits:
    """Read the three files below `data_dir`, with the fine labels; errors as `cifar.load`."""
    return cifar.load(_published(), settings.data_dir, cifar.SIDE, may_download)


def check(settings: Cifar100Task) -> None:
    """Judge the files by their names and sizes; errors as `cifar.check`."""
    cifar.check(_published(), settings.data_dir)


def _published() -> cifar.Published:
    return cifar.Published("CIFAR-100", "CIFAR100", FOLDER, FILES)

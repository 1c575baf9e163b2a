"""CIFAR-10: ten classes of colour photographs (`tasks.cifar`)."""

from __future__ import annotations

from fedrevive.settings.task import Cifar10Task
from fedrevive.tasks import cifar
from fedrevive.tasks.federated import Splits, TaskInfo

NAME = "cifar10"
CLASSES = 10
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


def info(settings: Cifar10Task) -> TaskInfo:
    """Shapes, classes and normalisation, at the chosen image size."""
    side = settings.image_size
    mean, std = MOMENTS[side]
    return TaskInfo(NAME, (3, side, side), CLASSES, mean, std)


def load(settings: Cifar10Task, may_download: bool) -> Splits:
    """Read the seven files below `data_dir`; errors as `cifar.load`."""
    return cifar.load(_published(), settings.data_dir, settings.image_size, may_download)


def check(settings: Cifar10Task) -> None:
    """Judge the files by their names and sizes; errors as `cifar.check`."""
    cifar.check(_published(), settings.data_dir)


def _published() -> cifar.Published:
    return cifar.Published("CIFAR-10", "CIFAR10", FOLDER, FILES)

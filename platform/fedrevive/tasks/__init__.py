"""Federated problems: data, its distribution over clients, and the networks trained on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fedrevive.settings.task import (
    Cifar10Task,
    Cifar100Task,
    DigitsAffineTask,
    DigitsTask,
    FashionMnistTask,
    FederatedTask,
    FemnistTask,
    MnistWritersTask,
    NewsgroupsTask,
    NextTokenTask,
    TaskSettings,
)
from fedrevive.tasks import (
    cifar10,
    cifar100,
    digits,
    fashion_mnist,
    femnist,
    mnist_writers,
    newsgroups,
    next_token,
)
from fedrevive.tasks.federated import FederatedData, Split, Splits, TaskInfo

__all__ = ["FederatedData", "Split", "TaskInfo", "check_data", "load_task", "task_info"]


@dataclass(frozen=True)
class _Source:
    info: Callable[[Any], TaskInfo]
    splits: Callable[[Any, bool], Splits]
    check: Callable[[Any], None] = lambda _: None


_SOURCES: dict[type[FederatedTask], _Source] = {
    DigitsTask: _Source(lambda _: digits.INFO, lambda _, __: digits.load_digits()),
    DigitsAffineTask: _Source(lambda _: digits.AFFINE_INFO, lambda _, __: digits.load_digits_affine()),
    FashionMnistTask: _Source(fashion_mnist.info, fashion_mnist.load, fashion_mnist.check),
    Cifar10Task: _Source(cifar10.info, cifar10.load, cifar10.check),
    Cifar100Task: _Source(cifar100.info, cifar100.load, cifar100.check),
    FemnistTask: _Source(lambda _: femnist.INFO, femnist.load, femnist.check),
    MnistWritersTask: _Source(mnist_writers.info, mnist_writers.load, mnist_writers.check),
    NewsgroupsTask: _Source(newsgroups.info, newsgroups.load, newsgroups.check),
    NextTokenTask: _Source(next_token.info, next_token.load, next_token.check),
}


def task_info(settings: TaskSettings) -> TaskInfo:
    """Shapes, classes and normalisation of a task, without touching its data."""
    return _SOURCES[type(settings)].info(settings)


def check_data(settings: TaskSettings) -> None:
    """Look whether the data is there, without reading or importing much.

    Raises:
        UserError: files that are missing (exit code 2) or corrupt (3).
    """
    _SOURCES[type(settings)].check(settings)


def load_task(settings: TaskSettings, seed: int, download: bool = False) -> FederatedData:
    """Read a task's data and distribute its train part over the clients.

    Args:
        settings: the task, its clients and its partition.
        seed: the experiment's seed; moves the partition only, never the parts themselves.
        download: fetch missing public files; without it nothing ever touches the network.

    Raises:
        UserError: files that are missing (exit code 2), corrupt (3) or could not be downloaded (5).
    """
    from fedrevive.tasks.partition import partition  # torch comes with it; task_info must not pay for that

    splits = _SOURCES[type(settings)].splits(settings, download)
    client_indices = partition(
        settings.partition,
        splits.train.labels,
        settings.clients,
        settings.samples_per_client,
        seed,
        splits.train_owners,
    )
    return FederatedData(
        info=task_info(settings),
        train=splits.train,
        validation=splits.validation,
        kd=splits.kd,
        test=splits.test,
        client_indices=client_indices,
        snippets=splits.snippets,
    )

"""Data sets in the files that torchvision keeps: how to get them, and what is said when something is wrong."""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedrevive.settings.errors import ExitCode, UserError, shown


def download(fetch: Callable[[], object], title: str) -> None:
    """Call torchvision's downloader.

    Raises:
        UserError: `title` could not be fetched (exit code 5).
    """
    try:
        fetch()
    except (OSError, RuntimeError, HTTPException) as error:
        reason = " ".join(str(error).split())[:150]
        raise UserError(
            f"--download: {title} could not be fetched: {reason}; try again later",
            exit_code=ExitCode.ENVIRONMENT,
        ) from error


def require(files: list[Path], data_dir: str, dataset: str, title: str) -> None:
    """Raise `UserError` (exit code 2) when one of the files is not there.

    Args:
        files: all of them, in one folder.
        data_dir: the setting.
        dataset: name of the class in torchvision.datasets.
        title: the data set's name in errors.
    """
    missing = [path for path in files if not path.is_file()]
    if missing:
        # The remedy stands before the folder: a long line loses its end.
        raise UserError(
            f"task.data_dir: {shown(data_dir)} lacks {missing[0].name} of {title}; add --download, or call "
            f"torchvision.datasets.{dataset}(root, download=True) with it; looked in {missing[0].parent.absolute()}"
        )


def corrupt(path: Path, reason: str, remedy: str = "delete it and add --download") -> UserError:
    """The error (exit code 3) for a file that is not what was published."""
    return UserError(
        f"task.data_dir: {path.name} is corrupt ({reason}); {remedy}; it lies in {path.parent.absolute()}",
        exit_code=ExitCode.CORRUPT,
    )


def average_pool(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mean of every 2x2 block, halves rounded up: [..., H, W] -> [..., H/2, W/2]."""
    *rest, height, width = images.shape
    blocks = images.reshape(*rest, height // 2, 2, width // 2, 2)
    pooled: NDArray[np.uint8] = ((blocks.sum(axis=(-3, -1), dtype=np.uint16) + 2) // 4).astype(np.uint8)
    return pooled

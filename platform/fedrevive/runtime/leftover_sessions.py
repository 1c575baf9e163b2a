"""Removing what sessions left among the temporary files when their process was killed, or kept for their logs."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = "fedrevive-"
TOKEN = "token"
RAY = "ray"
LEAVE_SECONDS = 3600.0
"""How long everything in a folder must have lain untouched: a living Ray writes every few seconds, and whoever wants
to read its logs has this long to find them. Ours."""
_NAME = re.compile(re.escape(PREFIX) + r"[a-z0-9_]{8}")


def hold(folder: Path) -> int:
    """Mark a session's folder as in use until the descriptor is closed, or this process ends however it may."""
    descriptor = os.open(folder / TOKEN, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def sweep(parent: Path) -> None:
    """Remove the folders of ended sessions of this user from `parent`; what cannot be removed stays."""
    try:
        named = [Path(entry) for entry in os.scandir(parent) if _NAME.fullmatch(entry.name)]
    except OSError:
        return
    for folder in named:
        try:
            if _ours(folder) and _left(folder):
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # another process is removing it, or may not be looked at
            continue


def _ours(folder: Path) -> bool:
    """Whether it is this user's and holds what a session puts there and nothing else."""
    found = folder.lstat()
    private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700
    return private and found.st_uid == os.geteuid() and {TOKEN} <= set(os.listdir(folder)) <= {TOKEN, RAY}


def _left(folder: Path) -> bool:
    """Whether its process is gone and nobody has written there for a while."""
    descriptor = os.open(folder / TOKEN, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return time.time() - max(_changed(folder)) > LEAVE_SECONDS
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def _changed(folder: Path) -> Iterator[float]:
    """When each file below was last changed, in seconds since 1970."""
    yield folder.lstat().st_mtime
    for where, _, files in os.walk(folder):
        for name in files:
            yield os.lstat(os.path.join(where, name)).st_mtime

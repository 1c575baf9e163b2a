"""One writer per run folder: a lock that the kernel frees when its holder dies (reliability.md E22)."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from pathlib import Path

from fedrevive.results.files import environment_errors
from fedrevive.settings.errors import ExitCode, UserError

LOCK = "LOCK"
_LOOKS, _LOOK_SECONDS = 3, 0.02


def holder(directory: Path) -> str | None:
    """Who writes `directory` now, such as `pid 12 on host`; None when nobody does.

    Looks for an instant without keeping anybody out: see `take_lock`.
    """
    path = directory / LOCK
    with environment_errors(path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _named(descriptor)
        finally:
            os.close(descriptor)
    return None


def take_lock(directory: Path) -> int:
    """Lock `directory` and return the descriptor; closing it frees the lock.

    Raises:
        UserError: exit code 4 naming the holder's pid and host; 5 when the file cannot be opened or locked.
    """
    path = directory / LOCK
    with environment_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _lock(descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        except BlockingIOError:
            other = _named(descriptor)
            os.close(descriptor)
            raise UserError(
                f"{directory}: already running: {other} holds this folder", exit_code=ExitCode.RUNNING
            ) from None
        except OSError:
            os.close(descriptor)
            raise
    return descriptor


def _lock(descriptor: int) -> None:
    """Raises `BlockingIOError` when another process holds it for longer than `holder` looks."""
    for _ in range(_LOOKS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(_LOOK_SECONDS)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _named(descriptor: int) -> str:
    return os.pread(descriptor, 300, 0).decode(errors="replace").strip() or "another process"

"""One writer per run folder: a lock that the kernel frees when its holder dies (reliability.md E22)."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from fedrevive.results.files import environment_errors
from fedrevive.settings.errors import ExitCode, UserError

LOCK = "LOCK"


def take_lock(directory: Path) -> int:
    """Lock `directory` and return the descriptor; closing it frees the lock.

    Raises:
        UserError: exit code 4 naming the holder's pid and host; 5 when the file cannot be opened or locked.
    """
    path = directory / LOCK
    with environment_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        except BlockingIOError:
            holder = os.pread(descriptor, 300, 0).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            raise UserError(
                f"{directory}: already running: {holder} holds this folder", exit_code=ExitCode.RUNNING
            ) from None
        except OSError:
            os.close(descriptor)
            raise
    return descriptor

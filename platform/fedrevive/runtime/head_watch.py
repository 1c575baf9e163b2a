"""Ending a command whose Ray has died, before Ray does it its own way.

Without its head a session is over, but the driver would wait a minute and then be ended by Ray in the middle of
whatever it does, without a word and with exit code 1. Files are safe at every moment, so ending it at once loses
nothing that `resume` needs.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from fedrevive.settings.errors import PREFIX, ExitCode

PROCESSES = ("gcs_server", "raylet")
_POLL_SECONDS = 0.1
_SHOW_CURSOR = "\x1b[?25h"


@contextmanager
def watched_head() -> Iterator[None]:
    """While the block runs, end this process with exit code 5 and one line when a process of its Ray's head dies."""
    node: Any = ray._private.worker._global_node  # the session was started by this process
    watched = {name: node.all_processes[name][0].process for name in PROCESSES}
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(watched, over), daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()


def _watch(watched: dict[str, Any], over: threading.Event) -> None:
    while not over.wait(_POLL_SECONDS):
        for name, process in watched.items():
            if process.poll() is not None:
                _end(name)


def _end(name: str) -> None:
    line = f"{PREFIX}compute: Ray's {name} process is gone; is there enough memory? the run can be resumed\n"
    if sys.stderr.isatty():
        line = f"\n{_SHOW_CURSOR}{line}"  # a progress bar hides it
    os.write(2, line.encode())
    os._exit(ExitCode.ENVIRONMENT)

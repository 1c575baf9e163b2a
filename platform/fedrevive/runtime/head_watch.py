"""Ending a command whose Ray has died, before Ray does it its own way.

Without its head a session is over, but the driver would wait a minute and then be ended by Ray in the middle of
whatever it does, without a word and with exit code 1. Files are safe at every moment, so ending it at once loses
nothing that `resume` needs.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from fedrevive.settings.errors import PREFIX, ExitCode

PROCESSES = ("gcs_server", "raylet")
_POLL_SECONDS = 0.1
_KNOCK_SECONDS, _MISSES = 2.0, 5
"""Real seconds between two looks at a head elsewhere, and how many in a row it may miss. Ours."""
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


@contextmanager
def watched_address(address: str) -> Iterator[None]:
    """While the block runs, end this process with exit code 5 and one line when nothing listens at `address` any more.

    Args:
        address: host:port of the head of a cluster that others started.
    """
    host, _, port = address.rpartition(":")
    over = threading.Event()
    watch = threading.Thread(target=_knock, args=((host.strip("[]"), int(port)), over), daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()


def _knock(door: tuple[str, int], over: threading.Event) -> None:
    missed = 0
    while not over.wait(_KNOCK_SECONDS):
        try:
            with socket.create_connection(door, timeout=_KNOCK_SECONDS):
                missed = 0
        except OSError:
            missed += 1
        if missed == _MISSES:
            _end(f"compute: the cluster's head at {door[0]}:{door[1]} is gone; the run can be resumed")


def _watch(watched: dict[str, Any], over: threading.Event) -> None:
    while not over.wait(_POLL_SECONDS):
        for name, process in watched.items():
            if process.poll() is not None:
                _end(f"compute: Ray's {name} process is gone; is there enough memory? the run can be resumed")


def _end(what: str) -> None:
    line = f"{PREFIX}{what}\n"
    if sys.stderr.isatty():
        line = f"\n{_SHOW_CURSOR}{line}"  # a progress bar hides it
    os.write(2, line.encode())
    os._exit(ExitCode.ENVIRONMENT)

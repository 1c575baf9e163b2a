"""Finding the processes of a command's Ray session, and ending what is left of them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

KINDS = {
    "client": "ray::ClientActor",
    "server": "ray::ServerActor",
    "raylet": "raylet",
    "gcs_server": "gcs_server",
}
"""Kind of process -> how its command line begins, without folders."""

AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""They try for a minute to tell a dead head of its death."""


def descendants(pid: int) -> dict[int, str]:
    """Command lines of everything that a process has started, itself left out."""
    parents, found, level = _parents(), {}, {pid}
    while level:
        level = {child for child, parent in parents.items() if parent in level}
        found |= {child: command_line(child) for child in level}
    return found


def of_kind(kind: str, pid: int) -> list[int]:
    """Processes of this kind below `pid`."""
    return [
        child
        for child, words in descendants(pid).items()
        if Path(words.split(" ")[0]).name.startswith(KINDS[kind].split(":")[0]) and KINDS[kind] in words
    ]


def command_line(pid: int) -> str:
    """Its words; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


@contextlib.contextmanager
def nothing_left(pid: int, seconds: float = 15) -> Iterator[None]:
    """What the process had started when the block began must end soon after the block; what stays is killed."""
    started = descendants(pid)
    yield
    deadline = time.monotonic() + seconds
    while (left := _running(started)) and not all(words.startswith(AGENTS) for words in left.values()):
        if time.monotonic() > deadline:
            _end(left)
            raise AssertionError(f"still running: {[words[:80] for words in left.values()]}")
        time.sleep(0.1)
    _end(left)


def _running(started: dict[int, str]) -> dict[int, str]:
    """Those that still are what they were; one that had ended when it was found has no words, and never gets any."""
    return {pid: words for pid, words in started.items() if words and command_line(pid) == words}


def _end(left: dict[int, str]) -> None:
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _parents() -> dict[int, int]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            found[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    return found

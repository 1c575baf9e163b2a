"""Processor time and memory of a tree of processes, read from Linux' /proc."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

PROC = Path("/proc")
SAMPLE_SECONDS = 0.5
"""Between two looks at memory: each costs a few milliseconds per process, which the process of its own keeps apart."""


def tree(root: int, without: frozenset[int] = frozenset()) -> list[int]:
    """`root` and every process below it, less those in `without` and what is below them."""
    children: dict[int, list[int]] = {}
    for stat in PROC.glob("[0-9]*/stat"):
        fields = _fields(int(stat.parent.name))
        if fields:
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        if pid not in without:
            found.append(pid)
            queue += children.get(pid, [])
    return found


def cpu_seconds(pids: list[int]) -> dict[int, float]:
    """Processor time so far of each process and of its children that have ended (to 10 ms); those gone are left out."""
    ticks = os.sysconf("SC_CLK_TCK")
    fields = {pid: _fields(pid) for pid in pids}
    # utime, stime, cutime, cstime
    return {pid: sum(map(int, found[11:15])) / ticks for pid, found in fields.items() if found}


class ProcessorClock:
    """Processor time of the tree below this process since the clock was made, less the benchmark's own helpers.

    Process by process: one that ends on the way takes its past with it, or leaves it to its parent, as the parent
    likes; a sum over all would then go back.
    """

    def __init__(self) -> None:
        self._before = self._now()

    def seconds(self) -> float:
        """Of processes that live, and of those that began and ended below them meanwhile."""
        return sum(after - self._before.get(pid, 0.0) for pid, after in self._now().items())

    def _now(self) -> dict[int, float]:
        return cpu_seconds(tree(os.getpid(), helpers()))


def proportional_bytes(pids: list[int]) -> int:
    """Memory of the processes, pages they share divided among their users (PSS)."""
    total = 0
    for pid in pids:
        try:
            lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # it ended
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total


def _fields(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on (number 3 in proc(5)); empty when the process is gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []


@dataclass
class Peak:
    """The largest memory seen; known once the watch is over."""

    megabytes: float = 0.0


@contextmanager
def peak_memory(root: int, without: frozenset[int] = frozenset()) -> Iterator[Peak]:
    """Watch the memory of a tree from a process of its own, which is no part of it."""
    peak = Peak()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    watcher = context.Process(target=_watch, args=(theirs, root, without), daemon=True)
    watcher.start()
    theirs.close()
    try:
        ours.recv()  # it has had its first look
        yield peak
        ours.send(None)
        peak.megabytes = ours.recv() / 1e6
    finally:
        ours.close()
        watcher.join(5)
        watcher.kill()


def helpers() -> frozenset[int]:
    """Processes of the benchmark itself below this one: tight loops and watchers, no part of what is measured."""
    return frozenset(process.pid for process in multiprocessing.active_children() if process.pid)


def _watch(connection: Connection, root: int, without: frozenset[int]) -> None:
    without |= {os.getpid()}
    peak = proportional_bytes(tree(root, without))
    connection.send(None)
    try:
        while not connection.poll(SAMPLE_SECONDS):
            peak = max(peak, proportional_bytes(tree(root, without)))
        connection.send(max(peak, proportional_bytes(tree(root, without))))
    except (EOFError, OSError):
        return  # whoever asked has given up

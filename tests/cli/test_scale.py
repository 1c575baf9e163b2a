"""Many clients on one machine: memory of a real run on Ray, and a plan of a million arrivals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

GIB = 1 << 30
NOT_OURS = ("raylet", "gcs_server", "agent", "dashboard", "log_monitor", "monitor.py")
"""Ray's own processes; whatever else descends from the command is its driver, an actor or a spare worker."""


def fedrevive(*words: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fedrevive", *words, "--json"]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def descendants(root: int) -> list[int]:
    """`root` and every process below it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue  # it ended
        parent = int(text.rsplit(")", 1)[1].split()[1])
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, queue = [], [root]
    while queue:
        found.append(queue.pop())
        queue += children.get(found[-1], [])
    return found


def memory(root: int) -> dict[str, int]:
    """Proportional set size in bytes of the driver and the actors, by process."""
    sizes = {}
    for pid in descendants(root):
        process = Path("/proc") / str(pid)
        try:
            words = [word.decode() for word in (process / "cmdline").read_bytes().split(b"\0")]
            rollup = (process / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        title = " ".join(words)
        program = [Path(word).name for word in words[:3] if not word.startswith("-")]
        if any(name in part.lower() for part in program for name in NOT_OURS):
            continue
        kilobytes = sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
        sizes[f"{pid} {title[:60]}"] = kilobytes * 1024
    return sizes


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux' smaps_rollup")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two workers")
def test_ten_thousand_clients_a_thousand_in_flight_fit_into_two_gigabytes(tmp_path: Path) -> None:
    process = fedrevive("run", "digits", "task.clients=10000", "server.concurrency=1000", "stop.arrivals=400",
                        "model.width=4", "client.local_steps=2", "--workers", "2", "--output", "out",
                        cwd=tmp_path)  # fmt: skip
    peak: dict[str, int] = {}
    while process.poll() is None:
        sizes = memory(process.pid)
        peak = max(peak, sizes, key=lambda each: sum(each.values()))
        time.sleep(0.25)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert json.loads(output.splitlines()[-1])["arrivals"] == 400
    actors = [title for title in peak if "ClientActor" in title or "ServerActor" in title]
    assert len(actors) == 3, peak
    assert sum(peak.values()) <= 2 * GIB, peak


@pytest.mark.slow
def test_a_million_arrivals_of_a_hundred_thousand_clients_can_be_planned(tmp_path: Path) -> None:
    process = fedrevive("plan", "digits", "task.clients=100000", "server.concurrency=1000",
                        "stop.arrivals=1000000", cwd=tmp_path)  # fmt: skip
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    plan = json.loads(output.splitlines()[-1])
    assert plan["arrivals"] == plan["versions"] == 1_000_000
    assert plan["staleness"]["mean"] == pytest.approx(999, rel=0.02)

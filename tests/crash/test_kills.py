"""SIGKILL at random moments: the command in a fresh interpreter, and many more in forked processes (--long)."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import crash_victim
import pytest
from crash_victim import SMALL
from uninterrupted import Reference, hashes, listing

from fedrevive.results.fsck import check_folder

QUICK_KILLS, DRIVER_KILLS, LONG_KILLS = 6, 50, 1_000
ARRIVALS = 40
MOST_STARTS = 400
WORDS = [*SMALL, f"stop.arrivals={ARRIVALS}", "--output", "out"]


Process = subprocess.Popen[bytes] | ForkServerProcess


def commits(directory: Path) -> int:
    return max((int(path.stem) for path in (directory / "snapshots").glob("[0-9]*.json")), default=0)


def wait_until_working(process: Process, directory: Path) -> None:
    """Until the process has the lock, or has ended."""
    lock = directory / "LOCK"
    while alive(process) and not (lock.exists() and f"pid {process.pid} " in lock.read_text()):
        time.sleep(0.002)


def alive(process: Process) -> bool:
    return code_of(process) is None


def code_of(process: Process) -> int | None:
    return process.poll() if isinstance(process, subprocess.Popen) else crash_victim.exit_code(process)


def killed_at_random(process: Process, directory: Path, draws: random.Random) -> None:
    """Let it come some commits further, wait a moment, kill it."""
    wait_until_working(process, directory)
    goal = commits(directory) + draws.randint(0, 2)
    while commits(directory) < goal and alive(process):
        time.sleep(0.001)
    time.sleep(draws.uniform(0, 0.03))
    process.kill()


def words(directory: Path) -> list[str]:
    return ["resume", "out"] if (directory / "manifest.json").exists() else WORDS


def fresh(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "fedrevive", *words(folder / "out")],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def chain(folder: Path, kills: int, draws: random.Random, *, forked: bool) -> list[dict[str, str]]:
    """Kill and go on until `kills` processes died of it, with a new run whenever one is complete; hashes of all."""
    done, runs = 0, [folder / "0"]
    for _ in range(MOST_STARTS + 4 * kills):
        if done == kills:
            break
        if (runs[-1] / "out" / "_SUCCESS").exists():
            runs.append(folder / str(len(runs)))
        here, directory = runs[-1], runs[-1] / "out"
        here.mkdir(parents=True, exist_ok=True)
        process = crash_victim.start(words(directory), here) if forked else fresh(here)
        killed_at_random(process, directory, draws)
        while (code := code_of(process)) is None:
            time.sleep(0.002)
        assert code in (0, -signal.SIGKILL), code
        done += code == -signal.SIGKILL
        if (directory / "manifest.json").exists():
            assert check_folder(directory).problems == []
    assert done == kills
    for here in runs:
        ended = crash_victim.command(words(here / "out"), here)
        assert ended.code == 0, ended.stderr
    return [hashes(here / "out") for here in runs]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, fork_server) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    done = crash_victim.command(WORDS, folder)
    assert done.code == 0, done.stderr
    return hashes(folder / "out")


def in_two_chains(tmp_path: Path, kills: int, *, forked: bool) -> list[dict[str, str]]:
    """Hashes of all runs."""
    with ThreadPoolExecutor(2) as pool:
        parts = [
            pool.submit(chain, tmp_path / f"chain{n}", kills // 2, random.Random(n), forked=forked)
            for n in (0, 1)
        ]
        return [found for part in parts for found in part.result()]


def test_a_few_kills(uninterrupted, tmp_path):
    found = in_two_chains(tmp_path, QUICK_KILLS, forked=True)
    assert all(hashes == uninterrupted for hashes in found)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_random_kills_of_the_command(uninterrupted, tmp_path):
    found = in_two_chains(tmp_path, DRIVER_KILLS, forked=False)
    assert all(hashes == uninterrupted for hashes in found)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_thousand_kills(uninterrupted, tmp_path, request):
    if not request.config.getoption("long"):
        pytest.skip("with --long only")
    found = in_two_chains(tmp_path, LONG_KILLS, forked=True)
    assert all(hashes == uninterrupted for hashes in found)


def test_a_second_process_is_told_who_is_there(fork_server, tmp_path):
    folder = tmp_path / "run"
    first = crash_victim.start(WORDS, folder)
    while not (folder / "out" / "manifest.json").exists():
        assert alive(first)
        time.sleep(0.002)
    os.kill(first.pid, signal.SIGSTOP)
    try:
        second = crash_victim.command(WORDS, folder)
        assert second.code == 4
        assert second.stderr.startswith("error: out: already running: ")
        assert f"pid {first.pid} on {os.uname().nodename}" in second.stderr
        assert len(second.stderr.splitlines()) == 1
        beside = crash_victim.command(["fsck", "out"], folder)
        assert beside.code == 0, beside.stdout
        assert f"going on (pid {first.pid} " in beside.stdout
    finally:
        first.kill()
        first.join()


def test_a_corrected_command_needs_no_other_folder(reference: Reference, tmp_path):
    """The first one fails before it saves anything, and what it leaves is in nobody's way."""
    wrong = [
        "faults.nan.jobs=1",
        "server.gate.finite=false",
        "server.gate.max_norm_factor=null",
        "snapshots.every_arrivals=null",
    ]
    failed = crash_victim.command([*SMALL, *wrong, "--output", "out"], tmp_path)
    assert failed.code == 6, failed.stderr
    assert (tmp_path / "out" / "manifest.json").exists()
    done = crash_victim.command([*SMALL, "--output", "out"], tmp_path)
    assert done.code == 0, done.stderr
    assert listing(tmp_path / "out") == reference.listing
    assert hashes(tmp_path / "out") == reference.hashes
    again = crash_victim.command([*SMALL, *wrong, "--output", "out"], tmp_path)
    assert again.code == 2
    assert "holds another run: faults.nan.jobs is 0.1 there" in again.stderr

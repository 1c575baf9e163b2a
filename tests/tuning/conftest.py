"""Tiny searches in real processes on real Ray."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

TINY = (
    "task.clients: 24, server.concurrency: 6, client.local_steps: 4, stop.arrivals: 24, evaluation.every_arrivals: 4, "
    "snapshots.every_arrivals: 5"
)
FEDREVIVE = ", algorithm.warmup_versions: 8, algorithm.freeze_versions: 4, algorithm.distill_steps: 2"
RANDOM = """
searcher: random
trials: 4
seeds: [0, 1]
space:
  server.lr: {loguniform: [0.05, 0.5]}
  algorithm.generate_every_versions: {randint: [2, 5]}
  algorithm.beta.family:
    choice:
      constant: {algorithm.beta.value: {uniform: [0.2, 1]}}
      polynomial: {algorithm.beta.exponent: {choice: [1, 2.5]}}
"""


class TinySearches:
    """Writes search files and runs the command."""

    RANDOM, FEDREVIVE = RANDOM, FEDREVIVE

    def __init__(self) -> None:
        self._begun: list[subprocess.Popen[str]] = []

    def kill_all(self) -> None:
        """End what a failed test left behind; Ray's processes follow their driver."""
        for process in self._begun:
            process.kill()

    def write(self, folder: Path, search: str, more: str = FEDREVIVE) -> None:
        path = folder / "search.yaml"
        lines = "".join(f"  {line}\n" for line in search.strip().splitlines())
        path.write_text(f"experiment: digits\noverrides: {{{TINY}{more}}}\nsearch:\n{lines}")

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "fedrevive", *words]

    def begin(self, folder: Path, *words: str) -> subprocess.Popen[str]:
        """`fedrevive tune` or another command, into `out`."""
        process = subprocess.Popen(
            self.command(*words), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._begun.append(process)
        return process

    def tune(self, folder: Path, *words: str) -> subprocess.Popen[str]:
        return self.begin(folder, "tune", "search.yaml", "--output", "out", "--json", *words)

    def ended(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        """Wait; what it printed as JSON."""
        out, err = process.communicate(timeout=800)
        assert process.returncode == 0, err
        return json.loads(out.splitlines()[-1])

    def table(self, directory: Path) -> pa.Table:
        """trials.parquet less what the real clock says."""
        return pq.read_table(directory / "trials.parquet").drop_columns(["wall_seconds"])


@pytest.fixture(scope="session")
def tiny() -> Iterator[TinySearches]:
    searches = TinySearches()
    yield searches
    searches.kill_all()


ASHA = """
searcher: grid
seeds: [0, 1]
scheduler: {kind: asha, grace: 0.5, reduction_factor: 2}
space:
  server.lr: {grid: [0.5, 0.00001, 0.00002]}
"""


def gcs_of(pid: int) -> list[str]:
    """Ray's head processes that this driver started."""
    listed = subprocess.run(["ps", "-eo", "ppid,pid,comm"], capture_output=True, text=True, check=True).stdout
    rows = (line.split(None, 2) for line in listed.splitlines()[1:])
    return [child for parent, child, name in rows if parent == str(pid) and name.startswith("gcs_server")]


@pytest.fixture(scope="session")
def pair(tiny, tmp_path_factory):
    """A random search and an ASHA grid, run at the same time on this machine."""
    folders = [tmp_path_factory.mktemp(name) for name in ("random", "asha")]
    tiny.write(folders[0], tiny.RANDOM)
    tiny.write(folders[1], ASHA, ", algorithm.name: fedbuff")
    running = [
        tiny.tune(folders[0]),
        tiny.tune(folders[1], "--concurrent", "1"),
    ]
    heads: list[list[str]] = [[], []]
    while not all(heads) and all(process.poll() is None for process in running):
        heads = [found or gcs_of(process.pid) for found, process in zip(heads, running, strict=True)]
        time.sleep(0.1)
    outcomes = [tiny.ended(process) for process in running]
    return {"random": folders[0], "asha": folders[1], "outcomes": outcomes, "heads": heads}


@pytest.fixture
def random(pair) -> Path:
    return pair["random"] / "out"

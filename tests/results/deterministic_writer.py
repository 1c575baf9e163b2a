"""A small run whose every row and array is a function of the arrival number; the crash tests kill it.

python deterministic_writer.py run DIR LAST   write until LAST arrivals, then finish
python deterministic_writer.py points DIR     die before the 1st, 2nd, ... change of a file, resume, compare
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fedrevive.results import RunStore, Snapshot
from fedrevive.results.schemas import ARRIVALS

MANIFEST = {"run_id": "0123456789abcdef", "config": {"seed": 0}, "seed": 0}
CHANGES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}


def arrival(sequence: int) -> dict[str, Any]:
    row = {name: float(sequence) for name in ARRIVALS.names}
    integers = {f.name for f in ARRIVALS if str(f.type) == "int64"}
    return {name: int(value) if name in integers else value for name, value in row.items()} | {"beta": None}


def evaluation(arrivals: int) -> dict[str, Any]:
    shares = dict.fromkeys(
        ("test_accuracy", "test_loss", "validation_accuracy", "validation_loss"), arrivals / 1e3
    )
    return {"arrivals": arrivals, "version": arrivals, "virtual_time": arrivals * 10**9, **shares}


def server_tensors(arrivals: int) -> dict[str, np.ndarray]:
    return {"model": np.full(200, arrivals, np.float32), "teachers": np.arange(arrivals, dtype=np.int64)}


def snapshot(arrivals: int) -> Snapshot:
    bases = {n: np.full(50, n, np.float32) for n in range(max(0, arrivals - 4), arrivals + 1)}
    return Snapshot(arrivals, arrivals * 10**9, {"queue": [[arrivals, "x"]]}, server_tensors(arrivals), bases)


def write(directory: Path, last: int) -> None:
    with RunStore.open(directory, manifest=MANIFEST) as store:
        if store.finished:
            return
        latest = store.latest()
        for done in range(latest.arrivals if latest else 0, last):
            store.append("arrivals", [arrival(done)])
            if done % 3 == 0:
                store.append("evaluations", [evaluation(done)])
            if done % 2 == 1:
                store.commit(snapshot(done + 1))
        store.finish(server_tensors(last), {"final_accuracy": 0.5})


def die_at_every_change(root: Path) -> int:
    """Number of points; raises AssertionError when one of them does not end in the reference's hashes."""
    write(root / "reference", 5)
    expected = listing(root / "reference"), hashes(root / "reference")
    point = 0
    while True:
        point += 1
        directory = root / str(point)
        if _in_child(lambda directory=directory, point=point: _write_and_die(directory, point)) == 0:
            return point
        assert visible_parts(directory) <= named_parts(directory), (
            f"point {point}: uncommitted rows are visible"
        )
        assert _in_child(lambda directory=directory: write(directory, 5)) == 0, (
            f"point {point}: cannot resume"
        )
        assert (listing(directory), hashes(directory)) == expected, f"point {point}: another result"


def listing(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def visible_parts(directory: Path) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in directory.glob("*/[0-9]*.parquet")}


def named_parts(directory: Path) -> set[str]:
    """Parts named by the newest snapshot or by the manifest."""
    texts = [path.read_text() for path in sorted(directory.glob("snapshots/[0-9]*.json"))[-1:]]
    named = [part for text in texts for part in json.loads(text)["snapshot"]["parts"]]
    if (directory / "manifest.json").exists():
        named += json.loads((directory / "manifest.json").read_text()).get("parts", [])
    return {f"{part['table']}/{part['name']}" for part in named}


def hashes(directory: Path) -> dict[str, str]:
    return json.loads((directory / "manifest.json").read_text())["hashes"]


def _write_and_die(directory: Path, point: int) -> None:
    seen = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in CHANGES and str(arguments[0]).startswith(str(directory)):
            seen += 1
            if seen == point:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    write(directory, 5)


def _in_child(work: Any) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


if __name__ == "__main__":
    if sys.argv[1] == "run":
        write(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        print(die_at_every_change(Path(sys.argv[2])))

"""Forks a run and dies before the 1st, 2nd, ... change of a file; a second call must finish what the first began.

python fork_writer.py PREFIX DIR OVERRIDE...   fork the digits run with these overrides from PREFIX into DIR/<point>
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from fedrevive.cli.execution import manifest
from fedrevive.core.process import configure_process
from fedrevive.fork import fork_run
from fedrevive.settings.loading import load

CHANGES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}
OF_THIS_PROCESS = {"LOCK", "manifest.json"}
"""Files that hold a pid or a time."""


def content(directory: Path) -> dict[str, bytes]:
    files = [path for path in directory.rglob("*") if path.is_file() and path.name not in OF_THIS_PROCESS]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def die_at_every_change(prefix: Path, root: Path, overrides: list[str]) -> int:
    """Number of points; AssertionError when one of them does not end in the same folder."""
    config = load("digits", overrides)

    def fork(directory: Path) -> None:
        fork_run(prefix, directory, manifest(config)).close()

    def fork_and_die(directory: Path, point: int) -> None:
        seen = 0

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if event in CHANGES and str(arguments[0]).startswith(str(directory)):
                seen += 1
                if seen == point:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        fork(directory)

    fork(root / "reference")
    expected, point = content(root / "reference"), 0
    while True:
        point += 1
        directory = root / str(point)
        if _in_child(lambda directory=directory, point=point: fork_and_die(directory, point)) == 0:
            return point
        parts = {path.name for path in directory.glob("*/[0-9]*.parquet")}
        committed = list(directory.glob("snapshots/[0-9]*.json"))
        assert committed or not parts, f"point {point}: uncommitted rows are visible"
        assert _in_child(lambda directory=directory: fork(directory)) == 0, f"point {point}: cannot go on"
        assert content(directory) == expected, f"point {point}: another folder"


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
    configure_process()
    print(die_at_every_change(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))

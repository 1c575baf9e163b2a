"""Folders of ended sessions are removed after a while; nothing else among the temporary files ever is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import fedrevive.runtime  # noqa: F401  # before Ray: it sets what Ray reads when it is imported
from fedrevive.runtime.leftover_sessions import LEAVE_SECONDS, sweep
from fedrevive.runtime.private_session import MODE, private_session

HOLDS_A_SESSION = """
import time
from fedrevive.runtime.private_session import private_session
with private_session() as folder:
    print(folder.parent, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def temporary(monkeypatch) -> Iterator[Path]:
    """A folder for temporary files of the test's own, with a name short enough for sockets."""
    monkeypatch.setenv(MODE, "token")
    with TemporaryDirectory(dir="/tmp", prefix="") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield Path(folder)


def untouched_since(folder: Path, seconds: float) -> None:
    then = time.time() - seconds
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (then, then), follow_symlinks=False)


def test_what_a_killed_session_left_goes_after_an_hour(temporary):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS_A_SESSION], stdout=subprocess.PIPE, text=True
    ) as process:
        left = Path(process.stdout.readline().strip())
        assert left.parent == temporary
        untouched_since(left, 2 * LEAVE_SECONDS)
        sweep(temporary)
        assert left.exists()  # in use
        process.kill()
    with private_session():
        assert not left.exists()
        assert len(list(temporary.iterdir())) == 1


def test_logs_may_be_read_for_an_hour(temporary):
    stack = ExitStack()
    log = stack.enter_context(private_session()) / "logs" / "raylet.out"
    log.parent.mkdir(parents=True)
    log.write_text("why")
    stack.__exit__(ValueError, ValueError("a bug"), None)
    kept = log.parents[2]
    untouched_since(kept, LEAVE_SECONDS - 60)
    sweep(temporary)
    assert log.exists()
    untouched_since(kept, LEAVE_SECONDS + 60)
    os.utime(log)
    sweep(temporary)
    assert log.exists()  # somebody still writes
    untouched_since(kept, LEAVE_SECONDS + 60)
    sweep(temporary)
    assert not kept.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "thesis.txt").write_text("mine"),
        lambda folder: (folder / "token").unlink(),
        lambda folder: folder.chmod(0o755),
        lambda folder: folder.rename(folder.parent / "fedrevive-backup-2026"),
        lambda folder: (folder.rename(folder.parent / "x"), folder.symlink_to(folder.parent / "x")),
    ],
    ids=["another file", "no token", "open to others", "another name", "a link"],
)
def test_nothing_but_folders_of_sessions_is_ever_removed(change, temporary):
    folder = temporary / "fedrevive-0123abc_"
    folder.mkdir(mode=0o700)
    (folder / "token").write_text("0" * 64)
    change(folder)
    (there,) = (path for path in temporary.iterdir() if not path.is_symlink())
    before = sorted(there.iterdir())
    untouched_since(there, 2 * LEAVE_SECONDS)
    sweep(temporary)
    assert sorted(there.iterdir()) == before

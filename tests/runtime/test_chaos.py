"""Chaos kills what lives, one after the other, and never trips over what has died by itself."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from fedrevive.core.messages import ClientTask
from fedrevive.runtime import chaos
from fedrevive.runtime.chaos import Chaos
from fedrevive.simulation.records import AppliedUpdate, ArrivalRecord

SECONDS = 20


@pytest.fixture
def sleepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({SECONDS})"])
            )
            for _ in range(4)
        ]
        yield started
        for process in started:
            process.kill()


@pytest.mark.parametrize("seed", range(3))
def test_a_process_that_ended_by_itself_is_passed_over(seed, sleepers, monkeypatch):
    monkeypatch.setattr(chaos, "FIRST_PAUSE", (0.0, 0.0))
    monkeypatch.setattr(chaos, "PAUSE", (0.0, 0.0))
    gone, client, lost, server = sleepers
    for process in (gone, lost):  # the run has not noticed yet
        process.kill()
        process.wait()
    killer = Chaos(seed)
    end = time.monotonic() + SECONDS

    def records() -> Iterator[ArrivalRecord]:
        while not all(killer.killed.values()) and time.monotonic() < end:
            time.sleep(0.01)
            yield ArrivalRecord(0, ClientTask(0, 0, 0, 0, 0, 1), 0, AppliedUpdate(None, 0.0, 0, ()))  # type: ignore[arg-type]

    pids = {"client": [gone.pid, client.pid], "server": [lost.pid, server.pid]}
    for _ in killer.during(records(), lambda: pids):
        pass
    assert killer.killed == {"client": 1, "server": 1}
    assert client.wait() == server.wait() == -signal.SIGKILL

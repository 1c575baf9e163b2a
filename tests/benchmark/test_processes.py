"""Processor time and memory of real processes."""

import subprocess
import sys
import time

import pytest

from fedrevive.benchmark.processes import ProcessorClock, cpu_seconds, peak_memory, proportional_bytes, tree

BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"
PARENT = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', '''{child}'''])\n"
    "{after}\nprint('ready', flush=True)\ntime.sleep(60)\n"
)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.fixture
def begun():
    processes = []

    def begin(program: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline().strip() == "ready"
        return process

    yield begin
    for process in processes:
        for pid in tree(process.pid)[1:]:
            subprocess.run(["kill", str(pid)], check=False)
        process.kill()
        process.wait()


def test_processor_time_includes_living_and_ended_children(begun):
    ended = begun(PARENT.format(child=BURN.format(seconds=0.3), after="child.wait()"))
    assert len(tree(ended.pid)) == 1
    assert 0.25 < cpu_seconds(tree(ended.pid))[ended.pid] < 1.5
    living = begun(PARENT.format(child="import time; time.sleep(60)", after=""))
    deadline = time.monotonic() + 20
    while len(tree(living.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(tree(living.pid)) == 2


def test_a_branch_can_be_left_out(begun):
    parent = begun(PARENT.format(child="import time; time.sleep(60)", after=""))
    whole = tree(parent.pid)
    assert tree(parent.pid, without=frozenset(whole[1:])) == [parent.pid]
    assert tree(parent.pid, without=frozenset([parent.pid])) == []


def test_processes_that_are_gone_count_nothing():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert cpu_seconds([process.pid]) == {}
    assert proportional_bytes([process.pid]) == 0


def test_the_peak_is_seen_although_the_memory_was_given_back(begun):
    grown = begun(
        "print('ready', flush=True)\nimport time\nb = bytearray(80_000_000)\ntime.sleep(4)\ndel b\ntime.sleep(60)"
    )
    with peak_memory(grown.pid) as peak:
        time.sleep(6)
    assert peak.megabytes > 80
    assert proportional_bytes([grown.pid]) < 40e6


def test_the_clock_never_goes_back_when_a_busy_process_ends(begun):
    program = "import time\nwhile time.process_time() < 0.4: pass\nprint('ready', flush=True)\ntime.sleep(60)"
    busy = begun(program)
    clock = ProcessorClock()
    busy.kill()
    busy.wait()
    assert clock.seconds() >= 0.0


def test_the_clock_counts_what_begins_after_it():
    clock = ProcessorClock()
    subprocess.run([sys.executable, "-c", BURN.format(seconds=0.3)], check=True)
    assert clock.seconds() > 0.25

"""`fedrevive tune --submit` on a Ray head with a dashboard on loopback: the log, and the command's own exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from tempfile import TemporaryDirectory

import pytest
from ray_processes import command_line, descendants
from real_clusters import HOSTS, SMALL, STORE, environment, free_port, inline_hashes, token_file

from fedrevive.results.manifest import read_manifest

pytestmark = [pytest.mark.slow, pytest.mark.ray]

OVERRIDES = ", ".join(word.replace("=", ": ") for word in SMALL)
SEARCH = (
    "experiment: ./e.yaml\n"
    f"overrides: {{{OVERRIDES}, stop.arrivals: ARRIVALS, snapshots.every_arrivals: 5}}\n"
    "search: {searcher: grid, seeds: [0], fork: 'off', space: {server.lr: {grid: [0.1]}}}\n"
)


class Head:
    """A running head, and our command beside it."""

    def __init__(self, folder, short: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        programs = os.path.dirname(sys.executable)
        self.env = environment(token_file(folder), PATH=f"{programs}{os.pathsep}{os.environ['PATH']}")
        command = [
            *("ray", "start", "--head", "--block", f"--node-ip-address={HOSTS[0]}", f"--port={free_port()}"),
            *(
                "--dashboard-host=127.0.0.1",
                f"--dashboard-port={self.url.rpartition(':')[2]}",
                "--num-cpus=2",
            ),
            *("--num-gpus=0", f"--object-store-memory={STORE}", f"--ray-client-server-port={free_port()}"),
            f"--temp-dir={short}",
            f"--dashboard-agent-listen-port={free_port()}",
        ]
        program = os.path.join(programs, "ray")
        self.log = folder / "log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([program, *command[1:]], env=self.env, stdout=log, stderr=log)

    def begin(self, folder, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "fedrevive", *words],
            cwd=folder, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, folder, *words: str) -> tuple[int, str, str]:
        process = self.begin(folder, *words)
        out, err = process.communicate(timeout=200)
        return process.returncode, out, err

    def tune(self, folder, arrivals: int, *more: str) -> list[str]:
        (folder / "e.yaml").write_text("name: mine\ntask: {name: digits}\nstop: {arrivals: 5}\n")
        (folder / "s.yaml").write_text(SEARCH.replace("ARRIVALS", str(arrivals)))
        return ["tune", "./s.yaml", "--output", str(folder / "out"), "--submit", self.url, *more]


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    folder = tmp_path_factory.mktemp("head")
    with TemporaryDirectory(
        prefix="head-", dir="/tmp", ignore_cleanup_errors=True
    ) as short:  # sockets' names are short
        head = Head(folder, short)
        try:
            wait_for(lambda: head.run(folder, "status", "--dashboard", head.url)[0] == 0, head.process)
            yield head
        finally:
            left = descendants(head.process.pid)
            head.process.terminate()
            head.process.wait(60)
            for pid in filter(command_line, left):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def test_a_search_comes_back_with_its_log_and_its_table(head, tmp_path):
    code, out, err = head.run(tmp_path, *head.tune(tmp_path, 20, "--json"))
    assert code == 0, out + err
    assert json.loads(out.splitlines()[-1])["trials"] == 1
    assert "a trial asks 1 CPU; the cluster offers 2 CPUs" in out
    (run,) = tmp_path.glob("out/runs/*")
    assert read_manifest(run)["hashes"] == inline_hashes(run, tmp_path / "inline")
    assert err.count("\n") == 1, err
    told = err.strip()
    assert told.startswith("job raysubmit_")
    number = told.split()[1].rstrip(";")
    code, out, _ = head.run(tmp_path, "status", number, "--dashboard", head.url)
    assert (code, out.split()[:2]) == (0, [number, "SUCCEEDED"])
    code, out, _ = head.run(tmp_path, "logs", number, "--dashboard", head.url)
    assert (code, '"trials": 1' in out) == (0, True)


def test_what_only_the_cluster_can_refuse_is_exit_code_2(head, tmp_path):
    code, out, err = head.run(tmp_path, *head.tune(tmp_path, 20, "--concurrent", "3"))
    assert code == 2, out + err
    assert "error: --concurrent: 3 trials of 1 CPUs do not fit the 2 CPUs; use 1..2" in out
    assert not (tmp_path / "out").exists()


def test_a_crash_is_no_success(head, tmp_path):
    running = head.begin(tmp_path, *head.tune(tmp_path, 100_000))
    try:
        drivers = wait_for(
            lambda: drivers_of(head) if list(tmp_path.glob("out/runs/*/arrivals/*")) else [], running
        )
        for pid in drivers:
            os.kill(pid, signal.SIGKILL)
        out, err = running.communicate(timeout=120)
    finally:
        running.kill()
    assert running.returncode == 128 + signal.SIGKILL, out + err


def test_stop_lets_a_search_save_and_resume_goes_on(head, tmp_path):
    running = head.begin(tmp_path, *head.tune(tmp_path, 100_000))
    try:
        wait_for(lambda: list(tmp_path.glob("out/runs/*/arrivals/*")), running)
        _, out, _ = head.run(tmp_path, "status", "--json", "--dashboard", head.url)
        (number,) = (job["number"] for job in json.loads(out)["jobs"] if job["status"] == "RUNNING")
        assert head.run(tmp_path, "stop", number, "--dashboard", head.url)[:2] == (
            0,
            f"{number}: asked to stop\n",
        )
        out, err = running.communicate(timeout=120)
    finally:
        running.kill()
    assert running.returncode == 130, out + err
    assert "go on with: fedrevive resume" in out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("logs", "nope"), "JOB: 'nope': no such job; fedrevive status lists them"),
        (("stop", "nope"), "JOB: 'nope': no such job; fedrevive status lists them"),
        (("status", "nope"), "JOB: 'nope': no such job; fedrevive status lists them"),
    ],
)
def test_an_unknown_job_is_one_line(head, tmp_path, words, line):
    code, _, err = head.run(tmp_path, *words, "--dashboard", head.url)
    assert (code, err) == (2, f"error: {line}\n")


def test_a_wrong_token_is_one_line(head, tmp_path):
    (tmp_path / "token").write_text("0" * 64)
    command = [sys.executable, "-m", "fedrevive", "status", "--dashboard", head.url]
    done = subprocess.run(
        command, env=environment(tmp_path / "token"), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --dashboard: '{head.url}': the cluster does not take your token")
    assert done.stderr.count("\n") == 1


def drivers_of(head) -> list[int]:
    """Processes of our command in the cluster."""
    return [pid for pid, words in descendants(head.process.pid).items() if "-m fedrevive tune" in words]


def wait_for(found, process, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not (result := found()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return result

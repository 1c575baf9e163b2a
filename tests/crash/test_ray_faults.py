"""A lost or frozen node, and lost calls and replies between processes: the same hashes, every job applied once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fedrevive.core.process import configure_process
from fedrevive.experiment import run_experiment
from fedrevive.followed_run import inline_executor
from fedrevive.results.reading import read_table
from fedrevive.results.store import RunStore
from fedrevive.settings.loading import load
from fedrevive.tasks import load_task

pytestmark = [pytest.mark.ray, pytest.mark.slow]

WORDS = ["task.clients=24", "server.concurrency=6", "evaluation.every_arrivals=20", "algorithm.warmup_versions=8",
         "algorithm.generate_every_versions=4", "snapshots.every_arrivals=5"]  # fmt: skip
LARGE = [*WORDS, "model.width=32", "client.local_steps=30", "stop.arrivals=150"]
"""Models above 100 kB, which Ray keeps in the shared memory of one node; work for longer than detection takes."""
SMALL = [*WORDS, "client.local_steps=4", "stop.arrivals=16", "snapshots.every_arrivals=2"]
FAST_DETECTION = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "500",
    "RAY_health_check_failure_threshold": "3",
}


def expected(words: list[str], folder: Path) -> dict[str, str]:
    configure_process()
    config = load("digits", words)
    executor = inline_executor(config, load_task(config.task, config.seed))
    with RunStore.open(
        folder, manifest={"run_id": "test", "config": config.model_dump(mode="json")}
    ) as store:
        for _ in run_experiment(config, store, executor):
            pass
        found: dict[str, str] = store.manifest["hashes"]
        return found


def on_ray(folder: Path, *words: str, **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "ray_driver.py"), str(folder), *words],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=560, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_work_of_a_lost_node_goes_to_another(number, tmp_path):
    found = on_ray(tmp_path / "ray", "nodes", str(int(number)), *LARGE, **FAST_DETECTION)
    assert found["hashes"] == expected(LARGE, tmp_path / "inline")
    assert len(set(found["applied"])) == len(found["applied"]) == 150
    assert found["given_up"] == 0
    assert found["detected"] < 5
    assert len(found["before"]) == len(found["after"]) == 2
    assert not set(found["before"].values()) & set(found["after"].values())


@pytest.mark.timeout(600)  # every failure costs the start of an actor
@pytest.mark.parametrize("lost", ["req_failure_prob", "resp_failure_prob"])
def test_lost_calls_and_replies(lost, tmp_path):
    probabilities = dict.fromkeys(("req_failure_prob", "resp_failure_prob", "in_flight_failure_prob"), 0)
    failures = {"num_failures": 10, **probabilities, lost: 20}  # in every process
    found = on_ray(
        tmp_path / "ray",
        "rpc",
        *SMALL,
        RAY_testing_rpc_failure=json.dumps({"CoreWorkerService.grpc_client.PushTask": failures}),
        RAY_testing_rpc_failure_avoid_intra_node_failures="0",
    )
    assert found["hashes"] == expected(SMALL, tmp_path / "inline")
    jobs = read_table(tmp_path / "ray", "arrivals").column("job").to_pylist()
    assert len(set(jobs)) == len(jobs) == 16

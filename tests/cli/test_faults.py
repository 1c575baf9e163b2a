"""Faults and rejections as a user meets them: foreseen by `plan`, reported by `run`; divergence exits with 6."""

import json
import subprocess
import sys

import pandas as pd

SMALL = ["digits", "algorithm.name=fedbuff", "task.clients=20", "server.concurrency=4", "client.local_steps=1",
         "stop.arrivals=40"]  # fmt: skip
FAULTS = ["faults.nan.jobs=0.2", "faults.dropout.jobs=0.1", "faults.timeout=0.5"]
INLINE = ["--executor", "inline"]


def fedrevive(*words, cwd):
    return subprocess.run(
        [sys.executable, "-m", "fedrevive", *words], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip


def test_a_run_reports_what_the_plan_foresaw(tmp_path):
    planned = json.loads(fedrevive("plan", *SMALL, *FAULTS, "--json", cwd=tmp_path).stdout)
    done = fedrevive("run", *SMALL, *FAULTS, *INLINE, "--output", "out", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout.splitlines()[-1])
    events = pd.read_parquet(tmp_path / "out" / "events")
    simulated = events[events.kind != "rejected"].kind.value_counts().to_dict()
    assert planned["faults"] == simulated
    assert outcome["rejected"] == simulated["nan"] == (events.kind == "rejected").sum()
    assert (
        outcome["arrivals"] == 40 == outcome["rejected"] + len(pd.read_parquet(tmp_path / "out" / "arrivals"))
    )
    assert f"rejected {outcome['rejected']}" in done.stderr


def test_a_diverged_run_exits_with_6_and_one_line(tmp_path):
    done = fedrevive(
        "run", *SMALL, *FAULTS, "server.gate.finite=false", *INLINE, "--output", "out", cwd=tmp_path
    )
    assert done.returncode == 6
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "diverged" in errors[0]
    assert fedrevive("resume", "out", *INLINE, cwd=tmp_path).returncode == 6


def test_nobody_can_finish(tmp_path):
    done = fedrevive("plan", *SMALL, "faults.crash.jobs=1", "faults.timeout=0.01", cwd=tmp_path)
    assert done.returncode == 6
    assert done.stderr.startswith("error: faults: nobody can finish")
    assert done.stderr.count("\n") == 1

"""`fedrevive diagnose` on a run and on a comparison, as a user types it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SMALL = [
    "task.clients=24",
    "server.concurrency=6",
    "client.local_steps=2",
    "stop.arrivals=30",
    "--executor",
    "inline",
]


def fedrevive(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fedrevive", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("diagnosed")
    words = ["compare", "digits", *SMALL, "--seeds", "0", "--output", "out", "--algorithms"]
    variants = (
        "fedbuff,fedrevive:warmup_versions=8:diagnostics=true:generate_every_versions=2"
        ":beta.family=constant:beta.value=1"
    )
    done = fedrevive(*words, variants, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def diagnosed(folder: Path, *words: str) -> dict:
    done = fedrevive("diagnose", *words, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_comparison_and_each_of_its_runs(folder: Path) -> None:
    outcome = diagnosed(folder, "out")
    assert outcome["dir"] == "out"
    plain, revived = outcome["runs"]
    assert plain["label"] == "fedbuff"
    assert {s["verdict"] for s in plain["signatures"]} == {"not measured"}
    assert (revived["seed"], revived["arrivals"]) == (0, 30)
    suppressed, vanishing, skewed = revived["signatures"]
    assert suppressed["verdict"] == "present"
    assert suppressed["numbers"]["mean_kept"] == 0
    assert "half_staleness" in suppressed["advice"]
    assert vanishing["numbers"]["median_norm_ratio"] > 0
    assert set(skewed["numbers"]) == {
        "mean_entropy",
        "share_of_largest_entropy",
        "mean_correlation",
        "mean_teacher_agreement",
        "mean_ensemble_accuracy",
    }
    assert None not in skewed["numbers"].values()
    alone = diagnosed(folder, f"out/runs/{revived['run_id']}")
    assert alone["runs"] == [{**revived, "label": "fedrevive"}]


def test_the_text_names_signatures_and_advice(folder: Path) -> None:
    done = fedrevive("diagnose", "out", cwd=folder)
    assert done.returncode == 0
    assert "raw updates suppressed" in done.stdout
    assert "half_staleness" in done.stdout


def test_another_folder_is_one_line(folder: Path) -> None:
    done = fedrevive("diagnose", "nowhere", cwd=folder)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1

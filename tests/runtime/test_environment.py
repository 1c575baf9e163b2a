"""What the environment asks of Ray is looked at before anything is created."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fedrevive.results.manifest import write_manifest


@pytest.mark.parametrize("words", [["run", "digits"], ["compare", "digits"], ["tune", "digits"]])
def test_variables_that_make_ray_fail_are_refused(words, tmp_path):
    environment = {**os.environ, "RAY_testing_rpc_failure": "{}"}
    done = subprocess.run(
        [sys.executable, "-m", "fedrevive", *words, "--output", "out"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: RAY_testing_rpc_failure: ")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["run", "digits", "--executor", "inline"], ["resume", "folder"]])
def test_chaos_needs_the_actors_of_one_run(words, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    write_manifest(folder, {"kind": "comparison"})
    done = subprocess.run(
        [sys.executable, "-m", "fedrevive", *words, "--chaos", "1"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: --chaos: ")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.rglob("*")) == [folder, folder / "manifest.json"]

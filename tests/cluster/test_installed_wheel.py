"""The wheel away from its sources: the command renders and validates launch files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> dict[str, str]:
    """Environment of a process that finds the wheel's packages and not those of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    subprocess.run([*install, str(folder / "site"), str(wheel)], check=True, capture_output=True, timeout=120)
    return {**os.environ, "PYTHONPATH": str(folder / "site")}


@pytest.mark.slow
@pytest.mark.parametrize("target", ["slurm", "kuberay", "aws", "gcp", "onprem", "local"])
def test_it_renders_what_it_finds_sound(installed, target, tmp_path):
    command = [sys.executable, "-m", "fedrevive", "cluster"]

    def run(*words: str) -> str:
        done = subprocess.run(
            [*command, *words],
            cwd=tmp_path,
            env=installed,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    run("render", target, "-o", "file")
    assert run("validate", "file").endswith(": no mistake found\n")
    where = "import fedrevive_clusters; print(fedrevive_clusters.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], cwd=tmp_path, env=installed, capture_output=True, text=True
    )
    assert Path(found.stdout.strip()).is_relative_to(installed["PYTHONPATH"])

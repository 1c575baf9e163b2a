"""What a user installs: the three packages, the presets, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "fedrevive": ROOT / "platform" / "fedrevive",
    "fedrevive_tuning": ROOT / "tuning" / "fedrevive_tuning",
    "fedrevive_clusters": ROOT / "clusters" / "fedrevive_clusters",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path).namelist()


def test_the_wheel_holds_three_packages_and_its_metadata(wheel):
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert len(tops) == len(PACKAGES) + 1


@pytest.mark.parametrize("package", PACKAGES)
def test_the_wheel_holds_every_source_file(package, wheel):
    source = PACKAGES[package]
    files = (p for p in source.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    expected = {f"{package}/{p.relative_to(source).as_posix()}" for p in files}
    assert expected
    assert expected == {name for name in wheel if name.startswith(f"{package}/")}


def test_the_wheel_holds_the_presets(wheel):
    assert "fedrevive/presets/digits.yaml" in wheel
    # The build leaves out what .gitignore names, such as the results folder of the repository's root.
    assert "fedrevive/results/store.py" in wheel

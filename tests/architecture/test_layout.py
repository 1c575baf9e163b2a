"""`platform/` is a source root next to a standard-library module of that name: what keeps the two apart."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE_ROOTS = ("platform", "tuning", "clusters")


def folders() -> list[Path]:
    tops = [ROOT / name for name in (*SOURCE_ROOTS, "tests")]
    below = [path for top in tops for path in top.rglob("*") if path.is_dir() and path.name != "__pycache__"]
    return tops + below


def test_no_source_root_is_a_package():
    assert [name for name in SOURCE_ROOTS if (ROOT / name / "__init__.py").exists()] == []


def test_tests_stay_outside_the_source_roots():
    found = [p for name in SOURCE_ROOTS for p in (ROOT / name).rglob("*.py")]
    assert found
    assert [
        p for p in found if p.name == "conftest.py" or p.stem.startswith("test_") or p.stem.endswith("_test")
    ] == []


def test_only_the_source_root_is_named_after_a_standard_module():
    assert [p for p in folders() if p.name in sys.stdlib_module_names] == [ROOT / "platform"]


@pytest.mark.parametrize("flags", [[], ["-P"]])
def test_the_standard_platform_module_wins_from_the_repository_root(flags):
    program = "import platform, uuid, torch; print(platform.system())"
    done = subprocess.run(
        [sys.executable, *flags, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, bool(done.stdout.strip())) == (0, True), done.stderr


def test_no_random_stream_shares_its_number_with_another():
    purposes = importlib.import_module("fedrevive.core.seeds").Purpose
    assert len(purposes) == len(purposes.__members__)

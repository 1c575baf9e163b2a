"""The versions that `make` installs: every dependency has one, in its range, on every Python we support."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = ("3.11", "3.12", "3.13")
LINES = [
    line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.lstrip().startswith("#")
]  # fmt: skip
PINS = [Requirement(line) for line in LINES]
WANTED = [
    Requirement(text)
    for text in chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    if not text.startswith("fedrevive")
]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(python: str) -> dict[str, Version]:
    """Name -> version on Linux x86-64."""
    place = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux",
             "platform_system": "Linux", "platform_machine": "x86_64", "platform_python_implementation": "CPython",
             "implementation_name": "cpython", "os_name": "posix"}  # fmt: skip
    pins = [pin for pin in PINS if pin.marker is None or pin.marker.evaluate(place)]
    versions = {canonical(pin.name): Version(next(iter(pin.specifier)).version) for pin in pins}
    assert len(versions) == len(pins), "a package has two versions"
    return versions


@pytest.mark.parametrize("python", PYTHONS)
def test_every_dependency_has_a_version_within_its_range(python):
    versions = locked(python)
    wrong = [str(wanted) for wanted in WANTED if versions[canonical(wanted.name)] not in wanted.specifier]
    assert wrong == []
    assert {"certifi", "urllib3", "protobuf", "jinja2"} <= versions.keys()  # those of dependencies, too


def test_the_lock_names_versions_only():
    assert [pin for pin in PINS if pin.extras or pin.url] == []
    assert {spec.operator for pin in PINS for spec in pin.specifier} == {"=="}
    assert [line for line in LINES if line.startswith("-")] == []


def test_the_floors_exclude_known_holes():
    floors = {canonical(wanted.name): wanted.specifier for wanted in WANTED}
    refused = {"ray": "2.55.0", "pyarrow": "25.0.0", "torch": "2.13.0"}
    assert [name for name, version in refused.items() if version in floors[name]] == []


def test_make_installs_from_the_lock():
    recipe = (ROOT / "Makefile").read_text()
    installs = [line for line in recipe.splitlines() if "pip install" in line and "--editable" in line]
    assert len(installs) == 1
    assert "--constraint constraints.txt" in installs[0]
    assert re.search(r"^\$\(INSTALLED\):.*constraints\.txt", recipe, re.MULTILINE)

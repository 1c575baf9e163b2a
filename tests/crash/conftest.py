"""A fork server for the victims, and the small run's uninterrupted outcome."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the fork server imports the victim by its name

import crash_victim
from uninterrupted import Reference, hashes, listing


@pytest.fixture(scope="session")
def fork_server() -> Iterator[None]:
    with crash_victim.fork_server():
        yield


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory, fork_server: None) -> Reference:
    folder = tmp_path_factory.mktemp("reference")
    done = crash_victim.command([*crash_victim.SMALL, "--output", "out"], folder)
    assert done.code == 0, done.stderr
    trace: dict[str, Any] = json.loads((folder / "trace.json").read_text())
    return Reference(
        folder / "out",
        hashes(folder / "out"),
        listing(folder / "out"),
        done.operations,
        trace["audited"],
        trace["threads"],
    )

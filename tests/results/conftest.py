"""The small deterministic run that the tests of the store write, kill and resume."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

settings.register_profile("shared_machine", deadline=None)
settings.load_profile("shared_machine")

WRITER = Path(__file__).with_name("deterministic_writer.py")


@pytest.fixture(scope="session")
def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("deterministic_writer", WRITER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def writer_script() -> str:
    return str(WRITER)

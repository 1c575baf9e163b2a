"""The command line in this process, stopped where a command would begin to work."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import typer

sys.path.insert(0, str(Path(__file__).parent))  # the generator is several files

from verdict import Accepted

from fedrevive.cli import app as command_line
from fedrevive.cli import preflight
from fedrevive.settings import ExperimentConfig
from fedrevive_tuning import placement


def _stopped(config: ExperimentConfig, *_: object, **__: object) -> int:
    raise Accepted(config)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; a command that gets as far as looking for what it needs has accepted its input."""
    folder = tmp_path / "outer" / "work"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(preflight, "workers", _stopped)
    monkeypatch.setattr(placement, "place", _stopped)
    monkeypatch.setattr(
        command_line, "app", typer.main.get_command(command_line.app)
    )  # built once, not per line
    return folder

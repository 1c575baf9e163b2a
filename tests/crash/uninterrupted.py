"""What a run folder holds when nothing went wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Reference:
    """The uninterrupted run."""

    folder: Path
    hashes: dict[str, str]
    listing: list[str]
    operations: list[str]
    """Names of its file operations, in order."""
    audited: dict[str, int]
    threads: int


def hashes(directory: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((directory / "manifest.json").read_text())["hashes"]
    return found


def listing(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))

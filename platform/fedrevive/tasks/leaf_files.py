"""JSON files as LEAF (Caldas et al., arXiv:1812.01097) writes them: users, and for each of them inputs and targets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedrevive.tasks.torchvision_files import corrupt


def json_files(folder: Path) -> list[Path]:
    """Files of both of LEAF's parts, training first, in `folder` or in its `data`; empty when there are none."""
    for root in (folder / "data", folder):
        found = [path for part in ("train", "test") for path in sorted((root / part).glob("*.json"))]
        if found:
            return found
    return []


def users(path: Path, remedy: str) -> Iterator[tuple[str, list[Any], list[Any]]]:
    """Name, inputs and targets of every user in a file, all of equal length and not empty.

    Raises:
        UserError: it is no such file (exit code 3).
    """
    try:
        content = json.loads(path.read_bytes())
        data, counts = content["user_data"], dict(zip(content["users"], content["num_samples"], strict=True))
        for name, count in counts.items():
            inputs, targets = data[name]["x"], data[name]["y"]
            if not len(inputs) == len(targets) == count:
                raise corrupt(path, f"user {name[:20]} has {len(targets)} samples, not {count}", remedy)
            if count:
                yield name, inputs, targets
    except (ValueError, KeyError, TypeError) as error:
        raise corrupt(path, f"not LEAF's JSON: {type(error).__name__} {str(error)[:40]}", remedy) from None

"""`manifest.json`: what a run is (configuration, seed, versions) and, once finished, what it produced."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fedrevive.results.files import commit_file, environment_errors, sha256_bytes
from fedrevive.results.schemas import SCHEMA_VERSION
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import ExitCode, UserError
from fedrevive.settings.identity import run_id

MANIFEST = "manifest.json"
NOT_PART_OF_RUN_ID = frozenset({"compute.executor", "compute.workers", "output"})
"""Configuration keys that two runs with one run id may disagree about (design.md §7)."""

_CHECKSUM = "sha256"
_MISSING = object()


def write_manifest(directory: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Write `manifest` with a checksum over its content; returns it as JSON gives it back.

    Raises:
        UserError: exit code 5, the file cannot be written.
    """
    content: dict[str, Any] = json.loads(json.dumps({"schema_version": SCHEMA_VERSION, **manifest}))
    commit_file(directory / MANIFEST, signed_json(content))
    return content


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a run folder.

    Raises:
        UserError: exit code 2 when there is none or it has another schema version, 3 when it is damaged, 5 when
            it cannot be read.
    """
    path = directory / MANIFEST
    try:
        with environment_errors(path):
            raw = path.read_bytes()
    except UserError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise UserError(f"{directory}: not a run folder ({MANIFEST} is missing)") from error
        raise
    try:
        content = verified_json(raw)
    except ValueError as error:
        raise UserError(f"{path}: damaged or edited by hand: {error}", exit_code=ExitCode.CORRUPT) from error
    if content["schema_version"] != SCHEMA_VERSION:
        raise UserError(
            f"{path}: schema_version is {content['schema_version']!r}; this fedrevive reads {SCHEMA_VERSION!r}"
        )
    return content


def run_manifest(config: ExperimentConfig, details: Mapping[str, Any]) -> dict[str, Any]:
    """What identifies a run and, by `details`, how it was made (versions, hardware lane, command)."""
    return {
        "kind": "run",
        "run_id": run_id(config),
        "config": config.model_dump(mode="json"),
        "seed": config.seed,
        **details,
        "created_at": time.time(),
    }


def signed_json(content: Mapping[str, Any]) -> bytes:
    """A JSON file that carries a checksum over its content."""
    signed = {**content, _CHECKSUM: _checksum(content)}
    return json.dumps(signed, indent=2).encode() + b"\n"


def verified_json(raw: bytes) -> dict[str, Any]:
    """The content of a file written as `signed_json`. Raises `ValueError` when it is any other."""
    content = json.loads(raw)
    if not isinstance(content, dict) or content.pop(_CHECKSUM, None) != _checksum(content):
        raise ValueError("checksum does not match")
    return content


def require_same_run(directory: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise `UserError` (exit code 2), naming the first key that differs, unless both are one run."""
    if "run_id" not in stored:
        raise UserError(
            f"{directory}: holds a {stored.get('kind', 'folder')}, not a single run; choose another folder"
        )
    if stored["run_id"] == wanted["run_id"]:
        return
    key, old, new = _first_difference(stored, wanted)
    raise UserError(
        f"{directory}: holds another run: {key} is {old} there and {new} here; "
        "choose another output folder or repeat that configuration"
    )


def _first_difference(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[str, str, str]:
    for section in ("config", "versions"):
        old, new = (dict(_flatten(json.loads(json.dumps(m.get(section, {}))))) for m in (stored, wanted))
        for key in dict.fromkeys((*new, *old)):
            if (
                key not in NOT_PART_OF_RUN_ID
                and not key.startswith("snapshots.")
                and old.get(key, _MISSING) != new.get(key, _MISSING)
            ):
                prefix = "" if section == "config" else f"{section}."
                return prefix + key, _shown(old, key), _shown(new, key)
    return "run_id", stored["run_id"], wanted["run_id"]


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _shown(flat: Mapping[str, Any], key: str) -> str:
    return json.dumps(flat[key]) if key in flat else "absent"


def _checksum(content: Mapping[str, Any]) -> str:
    return sha256_bytes(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())

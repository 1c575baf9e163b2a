"""A configuration as text that loads back, and as the identity of its run."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from fedrevive import __version__
from fedrevive.settings.experiment import ExperimentConfig
from fedrevive.settings.section import Section
from fedrevive.settings.sections import discriminator
from fedrevive.settings.yaml_reader import read_scalar

_WORD = re.compile(r"[A-Za-z./][\w./-]*", re.ASCII)


def run_id(config: ExperimentConfig) -> str:
    """16 hexadecimal digits that are equal exactly when two configurations must give the same results.

    SHA-256 over canonical JSON and the package's version. Left out is what never changes a result: where the run
    computes (`compute.executor`, `compute.workers`), how often it saves (`snapshots`) and where to (`output`).
    """
    settings = config.model_dump(
        mode="json", exclude={"compute": {"executor", "workers"}, "snapshots": True, "output": True}
    )
    text = json.dumps({"settings": settings, "version": __version__}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def dump_yaml(config: ExperimentConfig) -> str:
    """Every field with its value as YAML, ASCII only; loading it gives an equal configuration."""
    return "".join(f"{line}\n" for line in _lines(config, ""))


def _lines(section: Section, indent: str) -> Iterator[str]:
    kind = discriminator(type(section))
    for name in sorted(type(section).model_fields, key=lambda name: name != kind):
        value = getattr(section, name)
        if isinstance(value, Section):
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{name}: {scalar_text(value)}"


def scalar_text(value: Any) -> str:
    """A value as YAML and as an override `path=value`; reading it gives the value back."""
    if not isinstance(value, str):
        return json.dumps(value)
    if _WORD.fullmatch(value) and read_scalar(value) == value:
        return value
    return '"' + "".join(_escaped(character) for character in value) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if " " <= character <= "~" else f"\\U{ord(character):08X}"

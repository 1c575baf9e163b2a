"""Mistakes in a launch file, found without a cluster: its kind is recognised from its content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fedrevive.settings.errors import UserError, shown

LARGEST = 1 << 20
"""Bytes of a file that is looked at."""


def check_file(file: Path) -> tuple[str, list[str]]:
    """Kind of a launch file, and its mistakes, one line each.

    Raises:
        UserError: it cannot be read, or is of no known kind; exit code 5, a library that checks it is not installed.
    """
    text = _text(file)
    if text.startswith("#!"):
        return _script(file, text)
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise UserError(f"{shown(str(file))}: not YAML: {_problem(error)}") from None
    return _documents(file, documents, text)


def _text(file: Path) -> str:
    try:
        content = file.read_bytes()
        if len(content) > LARGEST:
            raise UserError(f"{shown(str(file))}: {len(content)} bytes are more than a launch file has")
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{shown(str(file))}: not a text in UTF-8") from None
    except OSError as error:
        raise UserError(f"{shown(str(file))}: {error.strerror}") from None


def _problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f" in line {mark.line + 1}" if mark else ""
    return f"{getattr(error, 'problem', None) or 'it cannot be read'}{where}"


def _script(file: Path, text: str) -> tuple[str, list[str]]:
    from fedrevive_clusters.script_rules import local_lines, slurm_lines

    if "#SBATCH" in text:
        return "Slurm batch script", slurm_lines(text)
    if "ray start" in text:
        return "script for Ray nodes on one machine", local_lines(text)
    raise _unknown(file)


def _documents(file: Path, documents: list[Any], text: str) -> tuple[str, list[str]]:
    from fedrevive_clusters.kuberay_rules import kuberay_lines
    from fedrevive_clusters.ray_up_rules import ray_up_lines

    if not documents or not all(isinstance(document, dict) for document in documents):
        raise _unknown(file)
    ours = [document for document in documents if str(document.get("apiVersion", "")).startswith("ray.io/")]
    if ours:
        kinds = " and ".join(str(document.get("kind")) for document in ours)
        return f"KubeRay {kinds}", [line for document in ours for line in kuberay_lines(document, text)]
    (document, *more) = documents
    if not more and {"provider", "cluster_name", "available_node_types"} & set(document):
        provider = document.get("provider")
        kind = provider.get("type") if isinstance(provider, dict) else None
        return f"ray up file for {kind or 'no provider'}", ray_up_lines(document, text)
    raise _unknown(file)


def _unknown(file: Path) -> UserError:
    return UserError(
        f"{shown(str(file))}: no launch file known here; a script begins with #! and has #SBATCH or ray start, YAML "
        "has apiVersion: ray.io/v1 or a provider"
    )

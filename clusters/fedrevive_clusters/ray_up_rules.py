"""Rules for `ray up` files: Ray's own schema, and what it leaves open."""

from __future__ import annotations

import copy
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedrevive_clusters.common_rules import dashboard_lines, secret_lines, uncommented
from fedrevive_clusters.launch_plan import RAY_VERSION
from fedrevive_clusters.schema_lines import schema_lines

TOKEN_FILE = "~/.ray/auth_token"
CLOUDS = ("aws", "gcp")
_OWN_COMMANDS = ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
_PIN = re.compile(r"\bray(?:\[[\w,]*\])?\s*(?P<relation>[=<>~!]=|[<>])\s*(?P<version>[\w.]+)")
_NFS = re.compile(
    r"\bmount\b.*\s-t\s*(nfs|nfs4|efs|lustre|ceph|glusterfs)\b|\bmount\.(nfs|lustre)\b|\bgcsfuse\b"
)


def ray_up_lines(document: dict[str, Any], text: str) -> list[str]:
    """Mistakes in a `ray up` file.

    Args:
        document: the parsed file.
        text: the file.
    """
    import ray.autoscaler

    schema = json.loads(Path(ray.autoscaler.__file__).with_name("ray-schema.json").read_text())
    lines = [*schema_lines(document, schema), *_min_max_lines(document)]
    if not lines:
        lines += _ray_s_own_lines(document)
    commands = {name: _commands(document, name) for name in _OWN_COMMANDS}
    return [
        *lines,
        *_start_lines(commands),
        *_pin_lines(commands),
        *_token_file_lines(document),
        *_storage_lines(document, commands),
        *_shutdown_lines(document, commands),
        *secret_lines(text),
        *dashboard_lines(uncommented(text)),
    ]


def _ray_s_own_lines(document: dict[str, Any]) -> list[str]:
    """What Ray says of a file that fits its schema."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    logging.getLogger("ray").setLevel(logging.CRITICAL)
    try:
        validate_config(prepare_config(copy.deepcopy(document)))
    except Exception as error:  # of any type: it is a private function
        return [f"Ray: {error}"]
    return []


def _min_max_lines(document: dict[str, Any]) -> Iterator[str]:
    types = document.get("available_node_types")
    for name, node in types.items() if isinstance(types, dict) else ():
        least, most = (
            node.get(key) if isinstance(node, dict) else None for key in ("min_workers", "max_workers")
        )
        if isinstance(least, int) and isinstance(most, int) and least > most:
            yield f"available_node_types.{name}.min_workers: {least} exceeds max_workers: {most}"


def _commands(document: dict[str, Any], name: str) -> list[str]:
    found = document.get(name)
    return [command for command in found if isinstance(command, str)] if isinstance(found, list) else []


def _start_lines(commands: dict[str, list[str]]) -> Iterator[str]:
    for name, ours in commands.items():
        if not ours:
            yield f"{name}: missing; Ray's own install a nightly build and open the dashboard to everyone"
            continue
        starts = [command for command in ours if re.search(r"\bray start\b", command)]
        if name == "setup_commands":
            continue
        if not starts:
            yield f"{name}: no ray start in it"
        for command in starts:
            if not re.search(r"\bRAY_AUTH_MODE=token\b", command):
                yield f"{name}: RAY_AUTH_MODE=token is missing, so anyone who reaches a port runs code"
            if "--head" in command and "--dashboard-host" not in command:
                yield f"{name}: --dashboard-host=127.0.0.1 is missing; other versions of Ray listen elsewhere"


def _pin_lines(commands: dict[str, list[str]]) -> Iterator[str]:
    text = "\n".join(commands["setup_commands"])
    if "nightly" in text or re.search(r"ray-[\w.]+dev\d*-", text):
        yield f"setup_commands: a nightly build of Ray is installed; pin ray=={RAY_VERSION}"
        return
    pins = list(_PIN.finditer(text))
    if commands["setup_commands"] and not pins:
        yield f"setup_commands: Ray's version is missing; install ray[default,tune]=={RAY_VERSION}"
    for pin in pins:
        if pin["relation"] != "==" or pin["version"] != RAY_VERSION:
            yield f"setup_commands: ray{pin['relation']}{pin['version']} is not what was tested; pin ray=={RAY_VERSION}"


def _token_file_lines(document: dict[str, Any]) -> Iterator[str]:
    mounts = document.get("file_mounts")
    if not isinstance(mounts, dict) or TOKEN_FILE not in mounts:
        yield f"file_mounts: {TOKEN_FILE} is missing; all nodes must have the token of ray get-auth-token --generate"


def _storage_lines(document: dict[str, Any], commands: dict[str, list[str]]) -> Iterator[str]:
    provider = document.get("provider")
    cloud = isinstance(provider, dict) and provider.get("type") in CLOUDS
    workers = document.get("max_workers", 0)
    text = "\n".join([*commands["setup_commands"], *_commands(document, "initialization_commands")])
    if cloud and workers and not _NFS.search(text):
        yield f"setup_commands: no shared storage is mounted, which {workers} workers need; mount -t nfs server:/folder"


def _shutdown_lines(document: dict[str, Any], commands: dict[str, list[str]]) -> Iterator[str]:
    provider = document.get("provider")
    if not isinstance(provider, dict) or provider.get("type") not in CLOUDS:
        return
    everything = [*_commands(document, "initialization_commands"), *commands["setup_commands"]]
    if not any("shutdown -P" in command for command in everything):
        yield "initialization_commands: sudo shutdown -P +720 is missing; a forgotten cluster would cost for ever"

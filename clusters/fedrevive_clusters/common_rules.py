"""Rules that hold for launch files of every kind: no secrets, no open dashboard, storage that nodes share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from fedrevive.settings.errors import shown

LOCAL_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/root", "/run", "/scratch/local", "/local")
"""Where a node keeps what the others do not see."""
_SECRETS = {
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "an AWS key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60})",
    "a Hugging Face token": r"\bhf_[A-Za-z]{34}\b",
    "Ray's token": r"RAY_AUTH_TOKEN['\"]?\s*(?:[=:]|,\s*value:|\n\s*value:)\s*['\"]?[\w-]{8}",
    "a password": r"\b[a-z][a-z0-9+.-]*://[^/\s:@'\"{}<>$]+:[^/\s:@'\"{}<>$]+@",
}
_OPEN_DASHBOARD = re.compile(r"dashboard[-_]host['\"]?\s*[=: ]\s*['\"]?(?P<host>[^\s'\",;}]+)")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_COMMAND = re.compile(r"\bfedrevive (?P<verb>run|resume|compare|study|tune)\b(?P<rest>[^\n;&|]*)")
_OUTPUT = re.compile(r"--output[= ](?P<folder>\S+)")


def uncommented(text: str) -> str:
    """Without lines that are comments; line numbers stay."""
    return "\n".join("" if line.lstrip().startswith("#") else line for line in text.split("\n"))


def secret_lines(text: str) -> Iterator[str]:
    """Keys and tokens, which belong into files that only their user may read."""
    for what, pattern in _SECRETS.items():
        found = re.search(pattern, text)
        if found:
            yield f"line {_line(text, found.start())}: {what} stands in the file; refer to a file or a secret instead"


def dashboard_lines(text: str) -> Iterator[str]:
    """A dashboard that others reach: whoever has it runs code."""
    for found in _OPEN_DASHBOARD.finditer(text):
        if found["host"].strip("'\"") not in _LOOPBACK:
            yield (
                f"line {_line(text, found.start())}: dashboard-host: {shown(found['host'])} opens the dashboard to "
                "others; use 127.0.0.1 and forward the port"
            )


def driver_lines(text: str) -> Iterator[str]:
    """A command that starts a Ray of its own leaves the cluster idle."""
    for found in _COMMAND.finditer(text):
        if "--address" not in found["rest"]:
            yield (
                f"line {_line(text, found.start())}: fedrevive {found['verb']} without --address starts a Ray of its "
                "own on one node; add --address auto"
            )


def storage_lines(text: str, nodes: int) -> Iterator[str]:
    """Results must go where all nodes see them."""
    if nodes < 2:
        return
    for command in _COMMAND.finditer(text):
        found = _OUTPUT.search(command["rest"])
        folder = found["folder"].strip("'\"") if found else ""
        if not found:
            problem = "no --output, so results go below the working folder"
        elif folder.startswith("$"):
            continue
        elif not folder.startswith("/"):
            problem = f"--output {shown(folder)} is relative"
        elif local_folder(folder):
            problem = f"--output {shown(folder)} is local to a node"
        else:
            continue
        yield (
            f"line {_line(text, command.start())}: {problem}; {nodes} nodes need a folder that they share, such as "
            "/shared/results"
        )


def local_folder(folder: str) -> bool:
    """Whether a path lies where a node keeps what the others do not see."""
    return any(PurePosixPath(folder).is_relative_to(local) for local in LOCAL_FOLDERS)


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1

"""Rules for shell scripts: Slurm batch scripts, and several Ray nodes on one machine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from fedrevive.settings.errors import ExitCode, UserError
from fedrevive_clusters.common_rules import (
    dashboard_lines,
    driver_lines,
    local_folder,
    secret_lines,
    storage_lines,
    uncommented,
)

RECONNECT = "RAY_gcs_rpc_server_reconnect_timeout_s"
_TOKEN_MODE = re.compile(r"\bRAY_AUTH_MODE=['\"]?token\b")
_NO_TOKENS = re.compile(r"\bRAY_AUTH_MODE=['\"]?disabled\b")
_STRICT = re.compile(r"^set -\w*e", re.MULTILINE)


def slurm_lines(text: str) -> list[str]:
    """Mistakes in a Slurm batch script."""
    asked = _sbatch(text)
    body = uncommented(text)
    nodes = int(asked.get("nodes", "1")) if asked.get("nodes", "1").isdecimal() else 2
    return [
        *_script_lines(text, body),
        *_allocation_lines(asked),
        *_symmetric_lines(asked, body),
        *_sentinel_lines(body),
        *_reconnect_lines(body),
        *storage_lines(body, nodes),
        *_private_storage_lines(body, nodes),
    ]


def local_lines(text: str) -> list[str]:
    """Mistakes in a script that starts several Ray nodes on one machine."""
    body = uncommented(text)
    lines = _script_lines(text, body)
    if re.search(r"\bray stop\b", body):
        lines.append(
            "ray stop: ends every Ray of this user on the machine; end the processes that the script started"
        )
    if "trap " not in body:
        lines.append("trap: missing; without it the Ray nodes outlive a script that fails")
    return lines


def _script_lines(text: str, body: str) -> list[str]:
    lines = list(_shellcheck_lines(text))
    if _NO_TOKENS.search(body):
        lines.append(
            "RAY_AUTH_MODE: disabled lets anyone who reaches a port run code; use RAY_AUTH_MODE=token"
        )
    elif not _TOKEN_MODE.search(body):
        lines.append("RAY_AUTH_MODE: missing; export RAY_AUTH_MODE=token, or Ray asks nobody for a token")
    elif "RAY_AUTH_TOKEN_PATH" not in body:
        lines.append(
            "RAY_AUTH_TOKEN_PATH: missing; nodes must read one token from a file that only you can read"
        )
    if not _STRICT.search(body):
        lines.append("set -e: missing; use set -euo pipefail, or the script goes on after a failure")
    return [*lines, *secret_lines(text), *dashboard_lines(body), *driver_lines(body)]


def _sbatch(text: str) -> dict[str, str]:
    """Options of the #SBATCH lines, without dashes."""
    found = re.findall(r"^#SBATCH\s+--([\w-]+)(?:[= ](\S+))?", text, re.MULTILINE)
    return dict(found)


def _allocation_lines(asked: dict[str, str]) -> Iterator[str]:
    if "exclusive" not in asked:
        yield "#SBATCH --exclusive: missing; at its end Ray stops every Ray of yours on a node, also of other jobs"
    if "time" not in asked:
        yield "#SBATCH --time: missing; without it a search that hangs keeps the nodes"
    if asked.get("ntasks-per-node") != "1":
        yield "#SBATCH --ntasks-per-node: must be 1; Ray is started once on each node"


def _symmetric_lines(asked: dict[str, str], body: str) -> Iterator[str]:
    if not re.search(r"\bsrun\b", body) or "ray symmetric-run" not in body:
        yield "srun ... ray symmetric-run: missing; it starts Ray on every node and stops it after the command"
        return
    wanted = re.search(r"--min-nodes[= ]\"?(\S+?)\"?\s", body)
    if not wanted:
        yield "--min-nodes: missing; the search would begin before the other nodes are there"
    elif wanted[1].isdecimal() and wanted[1] != asked.get("nodes"):
        yield f"--min-nodes: {wanted[1]}, but #SBATCH --nodes is {asked.get('nodes', 'missing')}; they must be equal"
    gpus = re.search(r"--num-gpus[= ](\d+)", body)
    if gpus and int(gpus[1]) and not {"gpus-per-node", "gres", "gpus", "gpus-per-task"} & set(asked):
        yield f"--num-gpus: {gpus[1]}, but no #SBATCH --gpus-per-node asks Slurm for them"
    cpus = re.search(r"--num-cpus[= ](\d+)", body)
    if cpus and asked.get("cpus-per-task", cpus[1]) != cpus[1]:
        yield f"--num-cpus: {cpus[1]}, but #SBATCH --cpus-per-task is {asked['cpus-per-task']}; they must be equal"


def _sentinel_lines(body: str) -> Iterator[str]:
    made = re.search(r"touch [\\\"']*\$\{?(\w+)", body)
    tested = made and re.search(rf"\[\[? *!? *-[ef] +\"?\$\{{?{made[1]}\b[^\n]*", body[made.end() :])
    if not tested or not made or "exit 1" not in body[made.end() :]:
        yield (
            "sentinel file: missing; Ray returns 0 when its head did not start, so let the command touch a file and "
            "exit 1 without it"
        )


def _reconnect_lines(body: str) -> Iterator[str]:
    if RECONNECT not in body:
        yield f"{RECONNECT}: missing; set it to 5 on the workers, or they idle for a minute after the head has gone"
        return
    for line in body.split("\n"):
        if RECONNECT in line and "SLURM_NODEID" not in line and "SLURM_PROCID" not in line:
            yield (
                f"{RECONNECT}: set on the head too, where it turns a finished search into a failed one; set it only "
                "where SLURM_NODEID is not 0"
            )


def _private_storage_lines(body: str, nodes: int) -> Iterator[str]:
    found = re.search(r"^\s*storage=[\"']?([^\s\"']+)", body, re.MULTILINE)
    if nodes > 1 and found and local_folder(found[1]):
        yield f"storage: '{found[1]}' is local to a node; {nodes} nodes need a folder that they share"


def _shellcheck_lines(text: str) -> Iterator[str]:
    """What ShellCheck calls a warning or an error.

    Raises:
        UserError: ShellCheck is not installed (exit code 5).
    """
    program = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or shutil.which("shellcheck")
    if program is None:
        raise UserError(
            "shellcheck: not installed, and scripts cannot be checked without it; pip install 'fedrevive[clusters]'",
            exit_code=ExitCode.ENVIRONMENT,
        )
    command = [program, "--shell=bash", "--severity=warning", "--format=json", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)
    for found in json.loads(done.stdout or "[]"):
        yield f"line {found['line']}: {found['message']} (shellcheck SC{found['code']})"

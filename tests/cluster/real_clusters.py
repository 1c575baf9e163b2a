"""Ray clusters of several nodes on this machine, with token authentication, and our command beside them."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fedrevive.followed_run import RunIdentity, run_inline
from fedrevive.results.manifest import read_manifest, run_manifest
from fedrevive.settings.loading import with_compute

SMALL = [
    "task.clients=24",
    "server.concurrency=6",
    "client.local_steps=4",
    "algorithm.warmup_versions=8",
    "algorithm.freeze_versions=4",
    "algorithm.distill_steps=2",
    "evaluation.every_arrivals=10",
]
FAST_DETECTION = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}
STORE = 100 << 20
HOSTS = tuple(f"127.0.0.{n}" for n in range(2, 9))
"""Loopback addresses that Ray does not replace by the machine's own, as it does with 127.0.0.1; Linux has them all."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses."""
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def token_file(folder: Path) -> Path:
    """A new token, readable by its user only."""
    file = folder / "token"
    file.touch(mode=0o600)
    file.write_text(secrets.token_hex(32))
    return file


def environment(token: Path, **more: str) -> dict[str, str]:
    """Of a process that may speak to the cluster with this token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {
        **kept,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        **more,
    }


class ThreeNodes:
    """A head with a logical GPU and one processor, and two workers with one processor each."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        common = {"num_cpus": 1, "object_store_memory": STORE}
        self.token = token_file(folder)
        self._common, self._hosts = common, list(HOSTS[1:])
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={
                **common,
                "node_ip_address": HOSTS[0],
                "num_gpus": 1,
                "include_dashboard": False,
                "_system_config": FAST_DETECTION,
            },
        )
        self.workers: list[Any] = []
        self.refill()

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def refill(self) -> None:
        """Two workers again."""
        while len(self.workers) < 2:
            self._hosts.append(self._hosts.pop(0))
            self.workers.append(self.cluster.add_node(**self._common, node_ip_address=self._hosts[-1]))

    def kill(self) -> None:
        """One worker, as when its power fails."""
        self.cluster.remove_node(self.workers.pop(), allow_graceful=False)

    def raylets(self) -> list[int]:
        """Processes of the nodes, the head's first and that of the worker which `kill` would take last."""
        started = [self.cluster.head_node, *self.workers]
        return [int(node.all_processes["raylet"][0].process.pid) for node in started]

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "fedrevive", *words, "--address", self.address]

    def begin(self, folder: Path, *words: str) -> subprocess.Popen[str]:
        """Our command with `--address`."""
        return subprocess.Popen(
            self.command(*words),
            cwd=folder,
            env=environment(self.token),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@contextmanager
def three_nodes(folder: Path, patch: Any) -> Iterator[ThreeNodes]:
    """They are gone afterwards, and so is what this process knew of their token."""
    with TemporaryDirectory(
        prefix="nodes-", dir="/tmp", ignore_cleanup_errors=True
    ) as short:  # sockets' names are short
        for name, value in environment(folder / "token", RAY_TMPDIR=short).items():
            patch.setenv(name, value)
        nodes = ThreeNodes(folder)
        try:
            yield nodes
        finally:
            nodes.cluster.shutdown()


def ended(process: subprocess.Popen[str], code: int = 0) -> tuple[dict[str, Any], str]:
    """Wait; what it printed as JSON, if anything, and the last line of its errors."""
    try:
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == code, err
    return json.loads(out.splitlines()[-1]) if out else {}, (err.splitlines() or [""])[-1]


def inline_hashes(run: Path, folder: Path) -> dict[str, str]:
    """What the configuration of a finished run gives in this process."""
    config = with_compute(read_manifest(run)["config"], {"compute.executor": "inline"})
    for _ in run_inline(
        config, RunIdentity(folder, run_manifest(config, {"versions": {}, "lane": {}})), False, lambda: False
    ):
        pass
    return read_manifest(folder)["hashes"]  # type: ignore[no-any-return]

"""A small whole experiment in one process: does everything work there, and does it give the bits it gives elsewhere?"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fedrevive.settings import ExperimentConfig
from fedrevive.settings.loading import load

_SMALL = (
    "compute.executor=inline",
    "compute.device=cpu",
    "task.clients=24",
    "server.concurrency=6",
    "client.local_steps=4",
    "algorithm.warmup_versions=8",
    "algorithm.freeze_versions=4",
    "algorithm.generate_every_versions=2",
    "algorithm.distill_steps=2",
    "stop.arrivals=40",
)


@dataclass(frozen=True)
class Smoke:
    """What came of it."""

    seconds: float
    """Of simulation, the start of the process left out."""
    model: str
    """Hash of the final model."""


def smoke_config() -> ExperimentConfig:
    """FedRevive on the digits, with every phase of the method, for a few seconds. Ours."""
    return load("digits", list(_SMALL))


def smoke() -> Smoke:
    """Run it in this process.

    Raises:
        UserError: what a run raises.
    """
    from fedrevive.followed_run import RunIdentity, run_inline
    from fedrevive.results.manifest import read_manifest, run_manifest

    config = smoke_config()
    with TemporaryDirectory(prefix="fedrevive-smoke-") as folder:
        identity = RunIdentity(
            Path(folder, "run"), run_manifest(config, {"versions": {}, "lane": {}, "command": ""})
        )
        clock = time.perf_counter()
        for _ in run_inline(config, identity, False, lambda: False):
            pass
        return Smoke(time.perf_counter() - clock, read_manifest(identity.folder)["hashes"]["model"])

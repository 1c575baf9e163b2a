"""Checks that need neither torch nor Ray, made before anything is created."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import UserError

_VERSIONED = ("fedrevive", "torch", "torchvision", "numpy", "ray", "pyarrow", "scikit-learn")


def available_cpus() -> int:
    """CPUs this process may use: its affinity and, in a container, its quota."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cpus
    return cpus if quota == "max" else max(1, min(cpus, -(-int(quota) // int(period))))


def ray_environment() -> None:
    """Raise `UserError` where a variable of the environment would open the Ray session to others, or make Ray fail."""
    from fedrevive.runtime.private_session import require_token_mode

    require_token_mode()
    for name in sorted(os.environ):
        if name.startswith("RAY_testing_"):
            raise UserError(f"{name}: makes Ray fail or wait on purpose, which is for tests of Ray; unset it")


def workers(config: ExperimentConfig) -> int:
    """Client actors to start, `auto` resolved.

    Raises:
        UserError: more than this machine has CPUs, or as `ray_environment`.
    """
    if config.compute.executor == "ray":
        ray_environment()
    cpus = available_cpus()
    asked = config.compute.workers
    if asked == "auto":
        return min(cpus, config.server.concurrency)
    if config.compute.executor == "ray" and asked > cpus:
        raise UserError(
            f"compute.workers: {asked} is more than the {cpus} CPUs of this machine; "
            f"use 1..{cpus} or auto (a worker serves any number of clients)"
        )
    return asked


def side_by_side(config: ExperimentConfig, runs: int) -> tuple[int, int]:
    """Lanes and client actors per lane that fill this machine with `runs` runs."""
    cpus = available_cpus()
    if config.compute.workers == "auto":
        lanes = min(runs, cpus)
        return lanes, max(1, cpus // lanes)
    each = workers(config)
    return max(1, min(runs, cpus // each)), each


def versions() -> dict[str, str]:
    """Installed versions of the packages that results depend on."""
    return {name: metadata.version(name) for name in _VERSIONED}


def lane() -> dict[str, Any]:
    """Hardware that bits may depend on: equal lanes and versions give equal bits (design.md §1)."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "gpu": sorted(_gpu_models()),
        "threads_per_process": 1,
    }


def provenance() -> dict[str, Any]:
    """What a manifest says of the software, the machine and the command."""
    return {"versions": versions(), "lane": lane(), "command": command_line()}


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _gpu_models() -> list[str]:
    files = Path("/proc/driver/nvidia/gpus").glob("*/information")
    return [
        line.split(":", 1)[1].strip() for f in files for line in f.read_text().splitlines() if "Model" in line
    ]


def command_line() -> str:
    """The command as typed, for the manifest."""
    return " ".join(["fedrevive", *sys.argv[1:]])

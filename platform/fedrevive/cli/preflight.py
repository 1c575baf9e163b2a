"""Checks that need neither torch nor Ray, made before anything is created."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrevive.provenance import lane, versions
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import UserError, shown
from fedrevive.settings.task import Cifar10Task, FashionMnistTask, TaskSettings


def available_cpus() -> int:
    """CPUs this process may use: its affinity and, in a container, its quota."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cpus
    return cpus if quota == "max" else max(1, min(cpus, -(-int(quota) // int(period))))


@dataclass(frozen=True)
class Offer:
    """What Ray may hand out."""

    cpus: int
    gpus: int | None = None
    """None: as many as torch sees here."""
    address: str | None = None
    """Head of the cluster, host:port; None = a Ray of our own on this machine."""
    cpus_beside_gpus: int | None = None
    """Of `cpus`, those on nodes that have GPUs; None = all."""

    @property
    def name(self) -> str:
        """For sentences."""
        return "this machine" if self.address is None else f"the cluster at {self.address}"


def offer(address: str | None, storage: Path | None = None) -> Offer:
    """This machine's processors, or those of the cluster that `--address` names.

    Args:
        address: as typed; None = this machine.
        storage: where actors write results; None = this process writes them.

    Raises:
        UserError: exit code 2, the cluster does not let us in, or not all nodes share the storage; 5, its nodes are not
            alike.
    """
    if address is None:
        return Offer(available_cpus())
    from fedrevive.runtime.cluster_address import require_cluster
    from fedrevive.runtime.cluster_offer import require_alike

    ray_environment()
    found = require_cluster(address)
    nodes = require_alike(found, storage)
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    return Offer(cpus, gpus, found, sum(node.cpus for node in nodes if node.gpus))


def nodes_find_data(task: TaskSettings, given: Offer) -> None:
    """Raise `UserError` when actors on other nodes would look for the data elsewhere: working folders differ."""
    match task:
        case FashionMnistTask(data_dir=folder) | Cifar10Task(data_dir=folder) if given.address is not None:
            if not Path(folder).expanduser().is_absolute():
                raise UserError(
                    f"task.data_dir: {shown(folder)} is relative, and working folders differ between nodes; name an "
                    "absolute folder that all of them see"
                )


def ray_environment() -> None:
    """Raise `UserError` where a variable of the environment would open the Ray session to others, or make Ray fail."""
    from fedrevive.runtime.private_session import require_token_mode

    require_token_mode()
    for name in sorted(os.environ):
        if name.startswith("RAY_testing_"):
            raise UserError(f"{name}: makes Ray fail or wait on purpose, which is for tests of Ray; unset it")


def workers(config: ExperimentConfig, given: Offer | None = None) -> int:
    """Client actors to start, `auto` resolved.

    Args:
        config: the experiment.
        given: what there is; None = this machine.

    Raises:
        UserError: more than there are CPUs, a cluster for inline work, or as `ray_environment`.
    """
    given = given or Offer(available_cpus())
    if config.compute.executor == "ray":
        ray_environment()
    elif given.address is not None:
        raise UserError(
            "--address: compute.executor is inline, which needs no cluster; leave it out, or use ray"
        )
    cpus = given.cpus
    asked = config.compute.workers
    if asked == "auto":
        return min(cpus, config.server.concurrency)
    if config.compute.executor == "ray" and asked > cpus:
        raise UserError(
            f"compute.workers: {asked} is more than the {cpus} CPUs of {given.name}; "
            f"use 1..{cpus} or auto (a worker serves any number of clients)"
        )
    return asked


def delays(config: ExperimentConfig) -> None:
    """Read the table of a trace, if it is one.

    Raises:
        UserError: there is none, or it is malformed.
    """
    if config.delays.kind == "trace":
        from fedrevive.simulation.trace_table import load_trace

        load_trace(config.delays)


def side_by_side(config: ExperimentConfig, runs: int, given: Offer) -> tuple[int, int]:
    """Lanes and client actors per lane that fill what there is with `runs` runs."""
    cpus = given.cpus
    if config.compute.workers == "auto":
        lanes = min(runs, cpus)
        return lanes, max(1, cpus // lanes)
    each = workers(config, given)
    return max(1, min(runs, cpus // each)), each


def provenance() -> dict[str, Any]:
    """What a manifest says of the software, the machine and the command."""
    return {"versions": versions(), "lane": lane(), "command": command_line()}


def command_line() -> str:
    """The command as typed, for the manifest."""
    return " ".join(["fedrevive", *sys.argv[1:]])

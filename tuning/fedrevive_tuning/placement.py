"""What a trial asks of the machine, and how many trials run at once; computed before Ray starts, so nothing waits."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import UserError

GPU_STEPS = 10_000
"""Ray counts GPUs in steps of 1/10,000."""


@dataclass(frozen=True)
class Placement:
    """Resources of one trial, all trials alike."""

    workers: int
    """Client actors per seed; 0 = the whole trial runs in its own process."""
    seeds: int
    gpu: float
    """Share of a GPU for each server (for the trial's process when it runs inline); 0 = none."""
    concurrent: int
    """Trials side by side."""
    cpus: int
    """Of this machine, or of the cluster."""
    gpus: int
    """That the trials use, of this machine or of the cluster."""
    address: str | None = None
    """Head of the cluster, host:port; None = a Ray of our own on this machine."""

    @property
    def inline(self) -> bool:
        """Whether a trial is one process."""
        return self.workers == 0

    @property
    def trial_cpus(self) -> int:
        """CPUs of one trial."""
        return max(1, self.seeds * self.workers)

    def bundles(self) -> list[dict[str, float]]:
        """Ray's placement group for one trial: its process, then the servers' GPU shares, then the clients' CPUs."""
        share = {"GPU": self.gpu} if self.gpu else {}
        if self.inline:
            return [{"CPU": 1.0, **share}]
        servers = [dict(share) for _ in range(self.seeds if share else 0)]
        return [{}, *servers, *({"CPU": 1.0} for _ in range(self.seeds * self.workers))]

    def sentence(self) -> str:
        """One line for the user."""
        gpu = f" and {self.gpu * (1 if self.inline else self.seeds):.4g} GPU" if self.gpu else ""
        offer = f"{self.cpus} CPUs" + (f" and {self.gpus} GPUs" if self.gpus else "")
        where = _where(self.address)
        return f"a trial asks {self.trial_cpus} CPU{gpu}; {where} offers {offer}: {self.concurrent} at a time"


def place(
    config: ExperimentConfig,
    *,
    seeds: int,
    concurrent: int | None,
    cpus: int,
    gpus: int,
    address: str | None = None,
) -> Placement:
    """Resources for trials of `config`, which a search gives no other `compute` section.

    Args:
        config: a configuration of the search.
        seeds: simulations per trial, side by side; on client actors each has its own.
        concurrent: trials at once; None = as many as fit.
        cpus: CPUs of this machine, or of the cluster.
        gpus: GPUs that servers (inline: trials) can use.
        address: head of the cluster; None = this machine.

    Raises:
        UserError: the machine has too few CPUs for one trial, or for so many at once.
    """
    if config.compute.executor == "inline":
        workers, needed, servers = 0, 1, 1
    else:
        workers = _workers(config, seeds * (concurrent or 1), cpus)
        needed, servers = seeds * workers, seeds
    if needed > cpus:
        raise UserError(
            f"compute.workers: a trial asks {needed} CPUs ({seeds} seeds with {workers} client actors each), "
            f"{_where(address)} has {cpus}; use fewer seeds or workers, or compute.executor: inline"
        )
    fit = cpus // needed
    if concurrent is not None and concurrent > fit:
        raise UserError(
            f"--concurrent: {concurrent} trials of {needed} CPUs do not fit the {cpus} CPUs; use 1..{fit}"
        )
    at_once = concurrent or fit
    share = math.floor(GPU_STEPS / math.ceil(at_once * servers / gpus)) / GPU_STEPS if gpus else 0.0
    return Placement(workers, seeds, share, at_once, cpus, gpus, address)


def _where(address: str | None) -> str:
    return "this machine" if address is None else "the cluster"


def _workers(config: ExperimentConfig, lanes: int, cpus: int) -> int:
    asked = config.compute.workers
    return max(1, min(config.server.concurrency, cpus // lanes)) if asked == "auto" else asked

"""Machines of two clouds, smallest first: what a launch file asks for by number of processors and GPUs."""

from __future__ import annotations

from typing import NamedTuple

from fedrevive.settings.errors import UserError


class MachineType(NamedTuple):
    """What the provider calls it, and what it has (the provider's own tables)."""

    name: str
    cpus: int
    gpus: int


def _family(prefix: str, sizes: str, gpus: int = 0) -> list[MachineType]:
    """`large:2 xlarge:4` as machine types."""
    named = (size.split(":") for size in sizes.split())
    return [MachineType(prefix + name, int(cpus), gpus) for name, cpus in named]


MACHINE_TYPES = {
    "aws": [
        *_family(
            "c7i.", "large:2 xlarge:4 2xlarge:8 4xlarge:16 8xlarge:32 12xlarge:48 16xlarge:64 48xlarge:192"
        ),
        *_family("g6.", "xlarge:4 2xlarge:8 4xlarge:16 8xlarge:32 16xlarge:64", gpus=1),
        *_family("g6.", "12xlarge:48 24xlarge:96", gpus=4),
        *_family("g6.", "48xlarge:192", gpus=8),
    ],
    "gcp": [
        *_family("n2-standard-", "2:2 4:4 8:8 16:16 32:32 48:48 64:64 80:80 128:128"),
        *_family("g2-standard-", "4:4 8:8 12:12 16:16 32:32", gpus=1),
        *_family("g2-standard-", "24:24", gpus=2),
        *_family("g2-standard-", "48:48", gpus=4),
        *_family("g2-standard-", "96:96", gpus=8),
    ],
}
"""Processors of the current general families, and GPUs with 24 GB (NVIDIA L4)."""


def smallest(target: str, cpus: int, gpus: int) -> str:
    """Name of the smallest machine with at least so many processors, and GPUs if any are asked for.

    Raises:
        UserError: the table has none.
    """
    known = [machine for machine in MACHINE_TYPES[target] if bool(machine.gpus) == bool(gpus)]
    fitting = [machine for machine in known if machine.cpus >= cpus and machine.gpus >= gpus]
    if not fitting:
        most = max(known, key=lambda machine: (machine.gpus, machine.cpus))
        raise UserError(
            f"--cpus-per-node, --gpus-per-node: no {target} machine known here has {cpus} CPUs and {gpus} GPUs; the "
            f"largest has {most.cpus} and {most.gpus}; ask for less, or write its name into the rendered file"
        )
    return min(fitting, key=lambda machine: (machine.gpus, machine.cpus)).name

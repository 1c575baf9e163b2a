"""Carrying out workloads, one after the other, and what is kept of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedrevive.benchmark import simulations
from fedrevive.benchmark.distillation import kd, kd_large
from fedrevive.benchmark.events import events
from fedrevive.benchmark.growth import growth
from fedrevive.benchmark.measuring import Row
from fedrevive.benchmark.searching import tune
from fedrevive.benchmark.session import Bench
from fedrevive.benchmark.sizes import FULL, QUICK
from fedrevive.benchmark.snapshots import resume
from fedrevive.benchmark.transport import transport
from fedrevive.benchmark.workloads import Workload
from fedrevive.results.files import commit_file
from fedrevive.results.schemas import BENCHMARK
from fedrevive.results.tables import parquet_bytes, table_from_rows

MEASURES: Mapping[str, Callable[[Bench], list[Row]]] = {
    "ceiling": simulations.ceiling,
    "sim-small": simulations.sim_small,
    "sim-inline": simulations.sim_inline,
    "sim-wide": simulations.sim_wide,
    "sim-mid": simulations.sim_mid,
    "sim-large": simulations.sim_large,
    "growth": growth,
    "events": events,
    "transport": transport,
    "kd": kd,
    "kd-large": kd_large,
    "determinism": simulations.determinism,
    "tune": tune,
    "resume": resume,
}


@dataclass(frozen=True)
class Machine:
    """Where and with what was measured; the same for all rows of a table."""

    device: str
    """Model of the processor that trained and distilled."""
    cpus: int
    """That this process may use."""
    versions: Mapping[str, str]


def measured(
    workloads: Sequence[Workload], *, quick: bool, machine: Machine, tell: Callable[[str], None]
) -> Iterator[list[dict[str, Any]]]:
    """Rows (`schemas.BENCHMARK`) of one workload after the other.

    Args:
        workloads: what is asked for.
        quick: tiny sizes and one repetition, to see that nothing breaks; its numbers mean nothing.
        machine: for the rows.
        tell: told what begins.

    Raises:
        RuntimeError: results that must be equal were not.
    """
    versions = " ".join(f"{name}={version}" for name, version in machine.versions.items())
    with Bench(QUICK if quick else FULL) as bench:
        for workload in workloads:
            tell(f"{workload.name} ({workload.code}): {workload.what}; load {os.getloadavg()[0]:.2f}")
            yield [
                {
                    "workload": workload.name,
                    "code": workload.code,
                    **asdict(row),
                    "device": machine.device,
                    "cpus": machine.cpus,
                    "versions": versions,
                }
                for row in MEASURES[workload.name](bench)
            ]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of `measured` as Parquet. Raises `UserError` (exit code 5) when the file cannot be written."""
    commit_file(path, parquet_bytes(table_from_rows(BENCHMARK, rows)))

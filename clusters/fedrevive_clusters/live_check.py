"""Is a running cluster fit for experiments? Every node is asked, then each runs a small one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedrevive.runtime.cluster_address import require_cluster
from fedrevive.runtime.cluster_offer import differences, unshared
from fedrevive.runtime.cluster_session import cluster_session
from fedrevive.runtime.cluster_survey import Report, nodes, on_every_node, survey
from fedrevive.runtime.smoke import Smoke, smoke
from fedrevive.settings.errors import UserError

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Checked:
    """A cluster, as it was found."""

    address: str
    reports: list[Report]
    """One per node, the head first."""
    smokes: dict[str, Smoke]
    """By number of the node, of those where the small experiment came to its end."""
    problems: list[str]
    """One line each."""
    notes: list[str]
    """What is no mistake, but good to know; one line each."""


def check_cluster(asked: str, storage: Path, *, expected: int | None, patience: float) -> Checked:
    """Look at every node of a running cluster.

    Args:
        asked: `--address`.
        storage: folder that all nodes should share.
        expected: how many nodes there should be; None = any number.
        patience: seconds to wait for them.

    Raises:
        UserError: exit code 2, the cluster does not let us in; 5, this process cannot write into the storage.
    """
    deadline = time.monotonic() + patience
    address = _let_in(asked, deadline)
    with cluster_session(address):
        while expected and len(nodes()) < expected and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        reports = survey(storage)
        able = [report.node for report in reports if report.facts]
        answers = on_every_node(able, smoke)
    smokes = {node.number: found for node, found in answers.items() if isinstance(found, Smoke)}
    failed = [
        f"node {node.address}: smoke run: {why}" for node, why in answers.items() if isinstance(why, str)
    ]
    counted = (
        [f"nodes: {len(reports)} instead of {expected}"] if expected and len(reports) != expected else []
    )
    problems = [*counted, *differences(reports), *unshared(reports, storage), *_memory(reports), *failed]
    uneven = list(_uneven(reports, smokes))
    if len(_lanes(reports)) == 1:
        problems += uneven
        uneven = []
    return Checked(address, reports, smokes, problems, [*_hardware(reports), *uneven])


def _let_in(asked: str, deadline: float) -> str:
    """Like `require_cluster`, but a cluster that is just starting has time to answer."""
    while True:
        try:
            return require_cluster(asked)
        except UserError:
            if time.monotonic() > deadline:
                raise
        time.sleep(_POLL_SECONDS)


def _memory(reports: list[Report]) -> Iterator[str]:
    for report in reports:
        if report.facts and report.facts.shared_memory < report.node.store_bytes:
            yield (
                f"node {report.node.address}: object store of {_mib(report.node.store_bytes)}, but /dev/shm has "
                f"{_mib(report.facts.shared_memory)}; Ray then keeps objects on disk; enlarge /dev/shm"
            )


def _lanes(reports: list[Report]) -> set[str]:
    return {str(sorted(report.facts.lane.items())) for report in reports if report.facts}


def _hardware(reports: list[Report]) -> Iterator[str]:
    if len(_lanes(reports)) > 1:
        yield "nodes differ in processors, GPUs or Python: the last bits of results may depend on who computes what"


def _uneven(reports: list[Report], smokes: dict[str, Smoke]) -> Iterator[str]:
    """Nodes whose small experiment ended otherwise than on the first."""
    first = next(iter(smokes.values()), None)
    for report in reports:
        found = smokes.get(report.node.number)
        if first and found and found.model != first.model:
            yield f"node {report.node.address}: smoke run: other bits than on the first node"


def _mib(count: int) -> str:
    return f"{count >> 20:,} MiB"

"""The workloads by name and code. Neither torch nor Ray is imported: a mistyped name is answered at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedrevive.settings.errors import UserError, did_you_mean, shown


@dataclass(frozen=True)
class Workload:
    """What can be asked for."""

    name: str
    code: str
    """Short form; docs/performance.md."""
    what: str


WORKLOADS = (
    Workload("ceiling", "B1", "small CNN in a tight loop without any framework, one process and two"),
    Workload("sim-small", "B2", "FedAsync, 200 clients, 20 at once, on two workers, beside the tight loop"),
    Workload("sim-inline", "B2i", "the same inside one process, beside the tight loop in one process"),
    Workload("sim-wide", "B3", "10,000 clients, 64 at once"),
    Workload("sim-mid", "B4", "FedAvg's CNN of 1.7 million parameters, 100 at once"),
    Workload("sim-large", "B5", "ResNet-18, 8 at once"),
    Workload("growth", "G", "what an arrival costs beside its training: 1,000 and 100,000 clients"),
    Workload("events", "B6", "the timeline alone: 1,000, 10,000 and 100,000 clients; planning a long run"),
    Workload("transport", "B7", "a model to an actor and an update back, beside plain copies"),
    Workload(
        "kd", "B8", "an arrival that distils, small CNN: its steps, and the same passes in a tight loop"
    ),
    Workload("kd-large", "B8r", "the same with ResNet-18"),
    Workload("determinism", "B9", "equal results inline, on one worker and on two"),
    Workload("tune", "T", "runs inside Ray Tune, beside the same runs on their own"),
    Workload("resume", "R", "a run that saves snapshots, beside one that saves none"),
)


def chosen(asked: Sequence[str]) -> list[Workload]:
    """The workloads named by `asked` (names or codes), in the order of the table; all of them when nothing is asked.

    Raises:
        UserError: an unknown name.
    """
    by_name = {key.lower(): workload for workload in WORKLOADS for key in (workload.name, workload.code)}
    for name in asked:
        if name.lower() not in by_name:
            known = ", ".join(f"{workload.name} ({workload.code})" for workload in WORKLOADS)
            near = did_you_mean(name.lower(), by_name)
            raise UserError(f"WORKLOAD: {shown(name)} is unknown{near or f'; choose among {known}'}")
    named = {by_name[name.lower()] for name in asked}
    return [workload for workload in WORKLOADS if workload in named or not asked]

"""How busy the processes of a run were, and the longest chain of work that had to follow one another (real time)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Bool = NDArray[np.bool_]

_CLIENT_WORK = ("train", "evaluate")


@dataclass(frozen=True)
class Utilisation:
    """Shares of real time, of each process from its first piece of work to the end of its last one."""

    workers: dict[str, float]
    """Busy share, training and evaluating, of every process that trained, in order of their first job."""
    server: float
    """Busy share of the server, applying updates; inline it and the one worker are one process and share its time."""
    critical_path_seconds: float
    """Longest chain of dependent work: a job waits for its base model, a server step for its job and the last step."""

    def summary(self) -> dict[str, float]:
        """What a run prints: the mean over the workers, the server, the chain."""
        shares = list(self.workers.values())
        return {
            "workers": sum(shares) / len(shares) if shares else 0.0,
            "server": self.server,
            "critical_path_seconds": self.critical_path_seconds,
        }


def utilisation(arrivals: pa.Table, timings: pa.Table) -> Utilisation:
    """Read a run's `arrivals` and `timings` (schemas of those names), also of a run that was resumed.

    A process that stood idle before its first piece of work, or after its last, is not charged for that: it may not
    have lived then.
    """
    encoded = (
        pc.binary_join_element_wise(timings["host"], timings["worker"], "/")
        .combine_chunks()
        .dictionary_encode()
    )
    names, process = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    starts = timings["started_at"].to_numpy()
    seconds = timings["duration_ms"].to_numpy() / 1e3
    work = pc.is_in(timings["kind"], pa.array(_CLIENT_WORK)).to_numpy()
    step = pc.equal(timings["kind"], "apply").to_numpy()

    def spent(one: int, busy: Bool) -> tuple[float, float]:
        """Seconds busy, and seconds the process is known to have lived."""
        own = process == one
        lived = float((starts[own] + seconds[own]).max() - starts[own].min())
        return float(seconds[own & busy].sum()), lived

    workers = {names[one]: _share([spent(one, work)]) for one in dict.fromkeys(process[work].tolist())}
    server = _share([spent(one, step) for one in dict.fromkeys(process[step].tolist())])
    return Utilisation(workers, server, _critical_path(arrivals, timings))


def _share(spent: list[tuple[float, float]]) -> float:
    busy, lived = (sum(column) for column in zip(*spent, strict=True)) if spent else (0.0, 0.0)
    return min(1.0, busy / lived) if lived > 0 else 0.0


def _critical_path(arrivals: pa.Table, timings: pa.Table) -> float:
    """Seconds of the chain that ends with the last server step; work of rejected uploads is left out."""
    train, apply = (_by_sequence(timings, kind, arrivals.num_rows) for kind in ("train", "apply"))
    bases = arrivals["base_version"].to_numpy()
    # Version v exists once the last step that met an earlier one is done, also where the end of a cohort made it.
    steps_before = np.searchsorted(arrivals["server_version"].to_numpy(), bases, side="left").tolist()
    finished = [0.0]  # [n + 1], after the first n steps
    for step, before in enumerate(steps_before):
        finished.append(max(finished[-1], finished[before] + train[step]) + apply[step])
    return finished[-1]


def _by_sequence(timings: pa.Table, kind: str, count: int) -> list[float]:
    """Seconds of each arrival's piece of work [count]; 0 where it is not known."""
    known = timings.filter((pc.field("kind") == kind) & pc.field("sequence").is_valid())
    seconds = np.zeros(count)
    seconds[known["sequence"].to_numpy()] = known["duration_ms"].to_numpy() / 1e3
    found: list[float] = seconds.tolist()
    return found

"""`resume`: what it costs to be able to go on after a kill."""

from __future__ import annotations

from functools import partial

from fedrevive.benchmark.measuring import Row, interleaved, row
from fedrevive.benchmark.problems import SHORT_JOB, SMALL_CNN, simulated
from fedrevive.benchmark.session import Bench
from fedrevive.benchmark.simulations import PER_UPDATE, simulated_sample
from fedrevive.followed_run import inline_executor


def resume(bench: Bench) -> list[Row]:
    """An inline run that saves every few arrivals (ours) and one that never does (reference)."""
    size, every = bench.sizes.resumed, bench.sizes.snapshot_arrivals
    never = simulated(SMALL_CNN, size, SHORT_JOB)
    often = simulated(SMALL_CNN, size, SHORT_JOB, f"snapshots.every_arrivals={every}")
    simulated_sample(inline_executor, never)
    cases = {
        name: partial(simulated_sample, inline_executor, c) for name, c in (("ours", often), ("none", never))
    }
    taken = interleaved(cases, bench.sizes.repetitions)
    ours, reference = taken["ours"], taken["none"]
    if ours[0].checksum != reference[0].checksum:
        raise RuntimeError("bench: saving snapshots changed the results")
    saved = size.arrivals // every
    per_snapshot = [
        (own.wall_ms - other.wall_ms) * size.arrivals / saved
        for own, other in zip(ours, reference, strict=True)
    ]
    return [
        row(
            "efficiency",
            PER_UPDATE,
            [s.cpu_ms for s in ours],
            [s.cpu_ms for s in reference],
            checksum=ours[0].checksum,
        ),
        row("time", "ms/update", [s.wall_ms for s in ours], [s.wall_ms for s in reference]),
        row("snapshot", "ms", per_snapshot),
    ]

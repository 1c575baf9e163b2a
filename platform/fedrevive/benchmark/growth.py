"""What an arrival costs beside its training, with few clients and with many."""

from __future__ import annotations

from fedrevive.benchmark.measuring import Row, Sample, interleaved, row
from fedrevive.benchmark.problems import SHORT_JOB, SMALL_CNN, simulated
from fedrevive.benchmark.session import Bench
from fedrevive.benchmark.simulations import PER_UPDATE, simulated_sample
from fedrevive.followed_run import inline_executor
from fedrevive.settings import ExperimentConfig


def growth(bench: Bench) -> list[Row]:
    """G: many clients (ours) beside few (reference), equally many at once; `machinery` = all but training."""
    few, many = (simulated(SMALL_CNN, size, SHORT_JOB) for size in bench.sizes.growth)

    def sample(config: ExperimentConfig) -> Sample:
        return simulated_sample(inline_executor, config)

    sample(few)
    taken = interleaved({"many": lambda: sample(many), "few": lambda: sample(few)}, bench.sizes.repetitions)
    return [
        row("arrival", PER_UPDATE, *([s.cpu_ms for s in taken[name]] for name in ("many", "few"))),
        row(
            "machinery", PER_UPDATE, *([s.more["machinery"] for s in taken[name]] for name in ("many", "few"))
        ),
    ]

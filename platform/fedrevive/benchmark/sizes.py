"""How much of everything a benchmark does: in full, to be quoted, and quick, to see that nothing breaks."""

from __future__ import annotations

from dataclasses import dataclass, field

WORKERS = 2
"""Client actors, and processes of the tight loop. Fixed, so that results of different machines are of one kind."""
SEED = 0


@dataclass(frozen=True)
class SimulationSize:
    """One simulated experiment."""

    clients: int
    concurrency: int
    arrivals: int


@dataclass(frozen=True)
class Sizes:
    """Sizes and repetitions."""

    repetitions: int = 5
    warm_up_arrivals: int = 40
    """Of a run, and updates of a tight loop, before anything is measured; less for short runs."""
    small: SimulationSize = SimulationSize(200, 20, 2000)
    wide: SimulationSize = SimulationSize(10_000, 64, 2000)
    mid: SimulationSize = SimulationSize(200, 100, 200)
    large: SimulationSize = SimulationSize(200, 8, 16)
    determinism_arrivals: int = 200
    growth: tuple[SimulationSize, SimulationSize] = (
        SimulationSize(1_000, 20, 2000),
        SimulationSize(100_000, 20, 2000),
    )
    """Few clients and many."""
    event_clients: tuple[int, ...] = (1_000, 10_000, 100_000)
    event_arrivals: int = 25_000
    planned_arrivals: int = 1_000_000
    transport_bytes: dict[str, int] = field(
        default_factory=lambda: {"0.22_MB": 220_000, "5_MB": 5_000_000, "45_MB": 45_000_000}
    )
    round_trips: int = 200
    pool_samples: int = 16_000
    """Of the synthetic pool, which teachers are asked about."""
    distill_steps: int = 10
    """K_KD; the published number in full."""
    distilled_arrivals: int = 5
    distilled_large_arrivals: int = 1
    trials: int = 8
    trial_arrivals: int = 600
    resumed: SimulationSize = SimulationSize(200, 20, 1000)
    snapshot_arrivals: int = 100
    """Arrivals between two snapshots: far more often than by default, so that they can be measured."""


FULL = Sizes()
QUICK = Sizes(
    repetitions=1,
    warm_up_arrivals=4,
    small=SimulationSize(24, 6, 24),
    wide=SimulationSize(10_000, 64, 80),
    mid=SimulationSize(24, 6, 8),
    large=SimulationSize(8, 2, 2),
    determinism_arrivals=12,
    growth=(SimulationSize(24, 6, 12), SimulationSize(10_000, 6, 12)),
    event_arrivals=2_000,
    planned_arrivals=5_000,
    transport_bytes={"0.22_MB": 220_000, "5_MB": 5_000_000},
    round_trips=3,
    pool_samples=640,
    distill_steps=1,
    distilled_arrivals=1,
    trials=2,
    trial_arrivals=12,
    resumed=SimulationSize(24, 6, 20),
    snapshot_arrivals=5,
)

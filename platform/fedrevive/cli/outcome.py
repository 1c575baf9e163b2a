"""What a finished run came to, for people."""

from __future__ import annotations

from typing import Any

from fedrevive.settings import ExperimentConfig


def show_outcome(config: ExperimentConfig, outcome: dict[str, Any]) -> None:
    """A finished run as a small table."""
    from rich.console import Console
    from rich.table import Table

    def number(name: str, digits: int) -> str:
        value = outcome[name]
        return "-" if value is None else f"{value:.{digits}f}"

    table = Table(title=f"{config.name}: {config.algorithm.name}, seed {config.seed}", show_header=False)
    rows = [
        ("final accuracy (last 10 evaluations)", number("final_accuracy", 4)),
        ("best accuracy", number("best_accuracy", 4)),
        ("area under the curve", number("auc", 4)),
        ("time to target", number("time_to_target", 2)),
        (
            "arrivals, rejected, versions",
            f"{outcome['arrivals']}, {outcome['rejected']}, {outcome['versions']}",
        ),
        ("virtual time", number("virtual_time", 2)),
        ("real seconds", number("wall_seconds", 1)),
        *((f"hash of {name}", value[:16]) for name, value in outcome["hashes"].items()),
        *((f"killed {kind} actors", str(killed)) for kind, killed in outcome.get("chaos", {}).items()),
        ("results", outcome["dir"]),
    ]
    for name, value in rows:
        table.add_row(name, value)
    Console().print(table)

"""`fedrevive plan`: the timeline and its cost, without training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedrevive.cli.run import Arguments, JsonOption, OutputOption, configuration
from fedrevive.settings.errors import UserError

if TYPE_CHECKING:
    from fedrevive.settings import ExperimentConfig
    from fedrevive.simulation.planning import Schedule

BARS = 16
BAR_WIDTH = 40


def plan(arguments: Arguments = None, output: OutputOption = None, as_json: JsonOption = False) -> None:
    """Show staleness, parallelism and cost without training.

    Example: fedrevive plan digits server.concurrency=50
    """
    config = configuration(arguments, output=output)
    if config.stop.arrivals is None and config.stop.virtual_time is None:
        raise UserError(
            "stop: a plan needs stop.arrivals or stop.virtual_time (an accuracy cannot be foreseen)"
        )
    from fedrevive.simulation.planning import schedule

    planned = schedule(config)
    summary = _summary(config, planned)
    if config.output is not None:
        _draw(config, planned, Path(config.output))
    if as_json:
        print(json.dumps(summary))
    else:
        _show(config, planned, summary)


def _summary(config: ExperimentConfig, planned: Schedule) -> dict[str, Any]:
    """The object of `--json` (design.md §6)."""
    import numpy as np

    from fedrevive.assemble import client_flops
    from fedrevive.simulation.delays import NANOSECONDS
    from fedrevive.simulation.planning import parallelism, planned_beta, server_flops
    from fedrevive.simulation.server_work import forward_work

    forward, input_shape = forward_work(config)
    client = client_flops(config)
    server = server_flops(config, planned, forward, input_shape)
    staleness, beta = planned.staleness, planned_beta(config, planned)
    arrivals = len(staleness)
    bound = parallelism(planned, client, server)
    quantiles = np.quantile(staleness, [0.05, 0.5, 0.95, 0.99]) if arrivals else np.full(4, np.nan)
    return {
        "arrivals": arrivals,
        "versions": int(planned.version[-1]),
        "virtual_time": float(planned.accepted_at[-1]) / NANOSECONDS if arrivals else 0.0,
        "staleness": {
            "mean": float(staleness.mean()) if arrivals else None,
            "sd": float(staleness.std()) if arrivals else None,
            **{
                name: float(q) if arrivals else None
                for name, q in zip(("q05", "q50", "q95", "q99"), quantiles, strict=True)
            },
        },
        "faults": dict(planned.faults),
        "beta_mean": float(beta[0].mean()) if beta is not None and arrivals else None,
        "parallelism": bound.with_server,
        "work": {
            "client_flops": client * arrivals,
            "server_flops": float(server.sum()),
            "critical_path_flops": bound.critical_path_flops,
            "parallelism_clients_only": bound.clients,
        },
    }


def _draw(config: ExperimentConfig, planned: Schedule, folder: Path) -> None:
    import numpy as np

    from fedrevive.results.figures import staleness_figure
    from fedrevive.results.files import environment_errors
    from fedrevive.results.folder import make_folder
    from fedrevive.simulation.planning import planned_beta

    beta = planned_beta(config, planned)
    curve = None if beta is None else np.vectorize(lambda tau: beta[1](int(tau)), otypes=[float])
    with environment_errors(folder):
        make_folder(folder)
    staleness_figure(planned.staleness, curve, folder / "staleness.png")


def _show(config: ExperimentConfig, planned: Schedule, summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(
        title=f"plan of {config.name}: {config.algorithm.name}, seed {config.seed}", show_header=False
    )
    tau, work = summary["staleness"], summary["work"]
    table.add_row("arrivals, versions", f"{summary['arrivals']:,}, {summary['versions']:,}")
    table.add_row("virtual time", f"{summary['virtual_time']:.2f}")
    if summary["arrivals"]:
        table.add_row("staleness mean, sd", f"{tau['mean']:.1f}, {tau['sd']:.1f}")
        table.add_row(
            "staleness 5/50/95/99 %", "/".join(f"{tau[q]:.0f}" for q in ("q05", "q50", "q95", "q99"))
        )
    if planned.faults:
        counted = ", ".join(f"{kind.replace('_', ' ')} {count:,}" for kind, count in planned.faults.items())
        table.add_row("simulated faults", counted)
    if summary["beta_mean"] is not None:
        table.add_row("mean beta, 0 in the warm-up", f"{summary['beta_mean']:.3f}")
    table.add_row(
        "parallelism bound",
        f"{summary['parallelism']:.1f} (clients alone {work['parallelism_clients_only']:.1f})",
    )
    table.add_row("client work", f"{work['client_flops']:.3g} FLOPs")
    table.add_row("server work", f"{work['server_flops']:.3g} FLOPs")
    console.print(table)
    if summary["arrivals"]:
        console.print(_histogram(planned))


def _histogram(planned: Schedule) -> str:
    """Staleness as text bars, the last one open."""
    import numpy as np

    staleness = planned.staleness
    top = max(1, int(np.quantile(staleness, 0.99)))
    width = max(1, -(-(top + 1) // BARS))
    counts = np.bincount(np.minimum(staleness // width, BARS))
    largest = counts.max()
    lines = ["staleness (versions)   share of arrivals"]
    for index, count in enumerate(counts):
        label = (
            f"{index * width:>6}-{(index + 1) * width - 1}"
            if index < BARS
            else f"{index * width:>6} and more"
        )
        lines.append(f"{label:<20} {'█' * round(BAR_WIDTH * count / largest)} {count / len(staleness):.1%}")
    return "\n".join(lines)

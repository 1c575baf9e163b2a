"""A study's outcome as Markdown: who is ahead in which setting, how fast, at what cost, in which configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fedrevive.results import comparison_folder
from fedrevive.results.files import commit_file
from fedrevive.results.schemas import RUNS
from fedrevive.results.statistics import comparison_rows
from fedrevive.results.tables import parquet_bytes, read_runs

SETTING = pa.field(
    "setting", pa.string(), nullable=False, metadata={"unit": "name", "description": "setting of the study"}
)
STUDY = pa.schema([SETTING, *RUNS])
"""One row per run of a study: `schemas.RUNS` with the setting in front."""

TABLE, REPORT = "study.parquet", "study.md"
Row = Mapping[str, Any]


def write_study(directory: Path, targets: Mapping[str, float]) -> str:
    """Write `study.parquet` and `study.md` of a study whose comparisons are complete; returns the report.

    Args:
        directory: the study's folder.
        targets: per setting, in order, the accuracy behind time to target.

    Raises:
        UserError: exit code 5, a file cannot be read or written.
    """
    tables = []
    for setting in targets:
        runs = read_runs(directory / setting / comparison_folder.TABLE)
        tables.append(runs.add_column(0, SETTING, pa.array([setting] * len(runs), pa.string())))
    runs = pa.concat_tables(tables).cast(STUDY)
    report = study_markdown(runs, targets)
    comparison_folder.unseal(directory)
    commit_file(directory / TABLE, parquet_bytes(runs))
    commit_file(directory / REPORT, report.encode())
    comparison_folder.seal(directory, (TABLE, REPORT))
    return report


def study_markdown(runs: pa.Table, targets: Mapping[str, float]) -> str:
    """The tables of a study.

    Args:
        runs: all runs, schema `STUDY`; only selected ones are reported.
        targets: per setting, the accuracy behind time to target.
    """
    short = _short(runs.column("label").to_pylist())
    called = pa.array([short[label] for label in runs.column("label").to_pylist()], pa.string())
    runs = runs.set_column(runs.schema.get_field_index("label"), runs.schema.field("label"), called)
    chosen = runs.filter(runs.column("selected"))
    settings = list(dict.fromkeys(chosen.column("setting").to_pylist()))
    reference = _reference(chosen)
    rows = {
        setting: {
            row["label"]: row for row in comparison_rows(_runs_of(chosen, setting), reference=reference)
        }
        for setting in settings
    }
    points = _points(runs)
    parts = [
        _titled(
            f"Difference to {reference}",
            "Best competitor other than the reference, and reference minus that one, seed by seed, ± 95 % interval.",
            _leaders(chosen, rows, reference),
        ),
        _titled(
            "Final accuracy",
            "Mean over the last 10 evaluations and over the seeds, ± half the 95 % t interval. Bold: the highest mean "
            f"of the competitors. ↑ ↓: the 95 % interval of the paired difference to {reference} excludes zero.",
            _grid(rows, lambda setting, row: _final(rows[setting], row)),
        ),
        _titled(
            "Area under the accuracy curve",
            "Mean accuracy over virtual time.",
            _grid(rows, lambda _, row: _auc(row)),
        ),
        _titled(
            "Virtual time to target",
            "Target: "
            + ", ".join(f"{name} {targets[name]:.3f}" for name in settings)
            + ". In brackets: seeds that never reached it, left out of the mean.",
            _grid(rows, lambda _, row: _target(row)),
        ),
        _titled(
            "Processor seconds per run",
            "Clients + server, measured; in brackets the server's operations per operation of the clients.",
            _grid(rows, lambda _, row: _cost(row)),
        ),
    ]
    if any(point != "-" for point in points.values()):
        selected = _titled(
            "Selected configurations",
            "By validation accuracy on the first seed; controls take their algorithm's. †: at the edge of the grid, "
            "so a wider one may do better.",
            _grid(rows, lambda setting, row: points[setting, row["label"]]),
        )
        parts.append(selected)
    return "\n".join(parts)


def _reference(chosen: pa.Table) -> str:
    """FedRevive where it competes, else the first competitor."""
    competitors = [run for run in chosen.to_pylist() if _competes(run)]
    revived = [run["label"] for run in competitors if run["algorithm"] == "fedrevive"]
    return str(revived[0] if revived else competitors[0]["label"])


def _points(runs: pa.Table) -> dict[tuple[str, str], str]:
    """What was selected, by setting and label; marked where a grid over one field ended there."""
    tried: dict[tuple[str, str], list[str]] = {}
    taken = {}
    for run in runs.to_pylist():
        key = run["setting"], run["label"]
        if run["configuration"] not in tried.setdefault(key, []):
            tried[key].append(run["configuration"])
        if run["selected"]:
            taken[key] = run["configuration"]
    return {key: f"{point}{_edge(point, tried[key])}" if point else "-" for key, point in taken.items()}


def _edge(point: str, tried: Sequence[str]) -> str:
    try:
        values = sorted(float(other.partition("=")[2]) for other in tried)
    except ValueError:  # several fields, or no numbers: there is no edge to speak of
        return ""
    return " †" if len(values) > 1 and float(point.partition("=")[2]) in (values[0], values[-1]) else ""


def _short(labels: Iterable[str]) -> dict[str, str]:
    """Labels without their grids, which the report lists at its end, as long as they can be told apart."""
    short = {
        label: ":".join(part for part in label.split(":") if "/" not in part)
        for label in dict.fromkeys(labels)
    }
    return short if len(set(short.values())) == len(short) else {label: label for label in short}


def _runs_of(runs: pa.Table, setting: str) -> pa.Table:
    return runs.filter(pc.equal(runs.column("setting"), setting)).select(RUNS.names)


def _leaders(chosen: pa.Table, rows: Mapping[str, Mapping[str, Row]], reference: str) -> list[str]:
    lines = [
        "| setting | best competitor | its accuracy | difference | best control | its accuracy |",
        "|---" * 6 + "|",
    ]
    for setting, by_label in rows.items():
        others = [row for label, row in by_label.items() if _competes(row) and label != reference]
        cells = [setting]
        if others:
            best = max(others, key=_mean_final)
            against = comparison_rows(_runs_of(chosen, setting), reference=best["label"])
            difference = next(row["difference"] for row in against if row["label"] == reference)
            cells += [best["label"], f"{_mean_final(best):.3f}", _signed(difference)]
        else:
            cells += ["-", "-", "-"]
        variants = [row for row in by_label.values() if not _competes(row)]
        top = max(variants, key=_mean_final, default=None)
        cells += [f"{top['label']}", f"{_mean_final(top):.3f}"] if top else ["-", "-"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _grid(rows: Mapping[str, Mapping[str, Row]], cell: Callable[[str, Row], str]) -> list[str]:
    labels = list(dict.fromkeys(label for by_label in rows.values() for label in by_label))
    marks = {
        label: " (oracle)" for by_label in rows.values() for label, row in by_label.items() if row["oracle"]
    }
    lines = ["| | " + " | ".join(rows) + " |", "|---" + "|---:" * len(rows) + "|"]
    for label in labels:
        cells = [cell(setting, by_label[label]) for setting, by_label in rows.items()]
        lines.append(f"| {label}{marks.get(label, '')} | " + " | ".join(cells) + " |")
    return lines


def _titled(title: str, explanation: str, lines: Sequence[str]) -> str:
    return "\n".join([f"### {title}", "", explanation, "", *lines, ""])


def _competes(row: Row) -> bool:
    """Neither a control nor an oracle."""
    return not row["follows"] and not row["oracle"]


def _mean_final(row: Row) -> float:
    mean = row["final_accuracy"]["mean"]
    return float("-inf") if mean is None else float(mean)


def _final(by_label: Mapping[str, Row], row: Row) -> str:
    best = max(map(_mean_final, filter(_competes, by_label.values())))
    text = _interval(row["final_accuracy"])
    if _competes(row) and _mean_final(row) == best:
        text = f"**{text}**"
    return text + _direction(row["difference"])


def _direction(difference: Row | None) -> str:
    if difference is None or difference["low"] is None:
        return ""
    return " ↑" if difference["low"] > 0 else " ↓" if difference["high"] < 0 else ""


def _interval(interval: Row) -> str:
    if interval["mean"] is None:
        return "-"
    if interval["low"] is None:
        return f"{interval['mean']:.3f}"
    return f"{interval['mean']:.3f} ± {(interval['high'] - interval['low']) / 2:.3f}"


def _signed(interval: Row) -> str:
    text = _interval(interval)
    return text if text.startswith(("-", "0.000")) else f"+{text}"


def _auc(row: Row) -> str:
    return f"{row['auc']['mean']:.3f}"


def _target(row: Row) -> str:
    mean = row["time_to_target"]["mean"]
    missed = f" ({row['censored']} never)" if row["censored"] else ""
    return "never" if mean is None else f"{mean:.2f}{missed}"


def _cost(row: Row) -> str:
    seconds = row["client_cpu_seconds"] + row["server_cpu_seconds"]
    return f"{seconds:.0f} ({row['server_flops'] / row['client_flops']:.2f})"

"""`tune`: runs inside Ray Tune, beside the same runs one after the other in as many plain processes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedrevive.benchmark.measuring import Row, Sample, interleaved, row
from fedrevive.benchmark.session import Bench
from fedrevive.benchmark.sizes import WORKERS
from fedrevive.followed_run import RunIdentity, run_inline
from fedrevive.results.manifest import read_manifest, run_manifest
from fedrevive.results.reading import read_table
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import ExitCode, UserError

SEARCH = """\
experiment: digits
overrides:
  task.clients: 200
  server.concurrency: 20
  model.width: 24
  client.local_steps: 5
  algorithm.name: fedasync
  stop.arrivals: {arrivals}
  evaluation.every_arrivals: {evaluated}
  compute.device: cpu
search:
  trials: {trials}
  space:
    server.lr: {{loguniform: [0.1, 0.9]}}
"""
"""Digits come with scikit-learn, so a search has data anywhere."""


def tune(bench: Bench) -> list[Row]:
    """Arrivals per second while trials run, `WORKERS` at a time; start and end are left out."""
    bench.end_ray()  # the search starts its own
    with tempfile.TemporaryDirectory(prefix="fedrevive-bench-") as folder:
        both = _Both(bench, Path(folder))
        taken = interleaved({"tune": both.inside_tune, "alone": both.alone}, bench.sizes.repetitions)
    ours, reference = taken["tune"], taken["alone"]
    if ours[0].checksum != reference[0].checksum:
        raise RuntimeError("bench: runs inside Tune gave other results than on their own")
    rate = [1e3 / s.wall_ms for s in ours], [1e3 / s.wall_ms for s in reference]
    cpu = [s.cpu_ms for s in ours], [s.cpu_ms for s in reference]
    return [
        row("efficiency", "arrivals/s", *rate, more_is_better=True, checksum=ours[0].checksum),
        row("work", "CPU-ms/arrival", *cpu),
    ]


class _Both:
    """The two sides; each call makes new run folders. The search comes first: it decides what is run."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self._bench, self._folder, self._calls = bench, folder, 0
        self._configs: list[ExperimentConfig] = []
        sizes = bench.sizes
        text = SEARCH.format(
            arrivals=sizes.trial_arrivals, evaluated=max(1, sizes.trial_arrivals // 10), trials=sizes.trials
        )
        (folder / "search.yaml").write_text(text)

    def inside_tune(self) -> Sample:
        """`fedrevive tune`, as anybody would call it."""
        output = self._new_folder()
        command = [sys.executable, "-m", "fedrevive", "tune", "search.yaml", "--output", output.name]
        done = subprocess.run(
            [*command, "--concurrent", str(WORKERS), "--json"],
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"bench: fedrevive tune failed: {last}", exit_code=ExitCode.ENVIRONMENT)
        runs = sorted((output / "runs").iterdir())
        self._configs = [
            ExperimentConfig.model_validate_json(json.dumps(read_manifest(run)["config"])) for run in runs
        ]
        return _sample(runs)

    def alone(self) -> Sample:
        """The same configurations, dealt to plain processes."""
        output = self._new_folder()
        output.mkdir()
        shares = [self._configs[n::WORKERS] for n in range(WORKERS)]
        self._bench.loops.each(_run_all, [(share, output) for share in shares])
        return _sample(sorted(output.iterdir()))

    def _new_folder(self) -> Path:
        self._calls += 1
        return self._folder / f"out{self._calls}"


def _run_all(work: tuple[Sequence[ExperimentConfig], Path]) -> None:
    """Runs one after the other, each in its own folder; in a process of its own."""
    configs, folder = work
    for config in configs:
        manifest = run_manifest(config, {})
        for _ in run_inline(config, RunIdentity(folder / manifest["run_id"], manifest), False, lambda: False):
            pass


def _sample(runs: Sequence[Path]) -> Sample:
    """Real time per arrival while all processes are at work, and processor time of the work per arrival."""
    pieces, arrivals, hashes = [], 0, []
    for run in runs:
        pieces += read_table(run, "timings").to_pylist()
        manifest = read_manifest(run)
        arrivals += manifest["summary"]["arrivals"]
        hashes.append(manifest["hashes"]["model"])
    checksum = hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest()
    cpu = sum(piece["cpu_ms"] for piece in pieces) / arrivals
    return Sample(cpu, 1e3 * seconds_per_arrival(pieces), checksum)


def seconds_per_arrival(pieces: Sequence[Mapping[str, Any]]) -> float:
    """Real seconds between two server steps, from the last process's first work to the first process's last.

    What lies outside is start and end; between two runs of a process it counts. Processes that never worked at the
    same time, as when every run has its own, are measured from the first piece of work to the end of the last.

    Args:
        pieces: rows of the table `timings`, of all runs.
    """
    spans: dict[str, tuple[float, float]] = {}
    for piece in pieces:
        began, ended = piece["started_at"], piece["started_at"] + piece["duration_ms"] / 1e3
        first, last = spans.get(piece["worker"], (began, ended))
        spans[piece["worker"]] = min(first, began), max(last, ended)
    firsts, lasts = zip(*spans.values(), strict=True)
    steps = [piece["started_at"] for piece in pieces if piece["kind"] == "apply"]
    begin, end = max(firsts), min(lasts)
    within = sum(begin <= step <= end for step in steps)
    if within == 0:
        begin, end, within = min(firsts), max(lasts), len(steps)
    return float(end - begin) / int(within)

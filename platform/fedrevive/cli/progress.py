"""What a run shows on standard error while it works: a live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from fedrevive.settings import ExperimentConfig

if TYPE_CHECKING:
    from fedrevive.followed_run import RunStatus
    from fedrevive.results.comparison_folder import Entry
    from fedrevive.simulation.records import ArrivalRecord, Record

PLAIN_SECONDS = 5.0
NANOSECONDS = 1e9


class RunProgress:
    """Follows the records of one run."""

    def __init__(self, config: ExperimentConfig, label: str = "") -> None:
        self._stop = config.stop
        self._label = label
        self._live = sys.stderr.isatty()
        self._started = self._printed = time.monotonic()
        self._first: int | None = None
        self._arrivals = self._rejected = self._version = 0
        self._clock = 0.0
        self._staleness = 0.0
        self._longest = 0
        self._accuracy: float | None = None
        self._bar = _live_bar()
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._live:
            self._bar.start()
            self._task = self._bar.add_task(self._label, total=1.0, status="starting")
        else:
            print(f"{self._label}starting", file=sys.stderr, flush=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._bar.stop()
        elif self._first is not None:
            print(self._label + self._status(), file=sys.stderr, flush=True)

    def show(self, record: Record) -> None:
        """Take one record into account."""
        from fedrevive.simulation.records import ArrivalRecord, EvaluationRecord, EventRecord

        if isinstance(record, EvaluationRecord):
            self._accuracy = record.evaluation.test_accuracy
        elif isinstance(record, ArrivalRecord):
            self._take(record)
        elif isinstance(record, EventRecord):
            self._rejected += record.kind == "rejected"
        if self._live:
            assert self._task is not None
            self._bar.update(self._task, completed=self._done(), status=self._status())
        elif time.monotonic() - self._printed >= PLAIN_SECONDS:
            self._printed = time.monotonic()
            print(self._label + self._status(), file=sys.stderr, flush=True)

    def _take(self, record: ArrivalRecord) -> None:
        if self._first is None:
            self._first, self._started = record.sequence, time.monotonic()
        self._arrivals = record.sequence + 1
        self._clock = record.accepted_at / NANOSECONDS
        self._version = record.applied.info.new_version
        self._staleness += 0.05 * (record.applied.info.staleness - self._staleness)
        self._longest = max(self._longest, record.applied.info.staleness)

    def _done(self) -> float:
        parts = [0.0]
        if self._stop.arrivals:
            parts.append((self._arrivals + self._rejected) / self._stop.arrivals)
        if self._stop.virtual_time:
            parts.append(self._clock / self._stop.virtual_time)
        return min(1.0, max(parts))

    def _status(self) -> str:
        seconds = max(1e-9, time.monotonic() - self._started)
        rate = (self._arrivals - (self._first or 0)) / seconds
        accuracy = "" if self._accuracy is None else f" | accuracy {self._accuracy:.3f}"
        rejected = f" | rejected {self._rejected}" if self._rejected else ""
        return (
            f"t={self._clock:.2f} | {self._arrivals} arrivals ({rate:.0f}/s) | version {self._version} | "
            f"staleness {self._staleness:.0f} max {self._longest}{rejected}{accuracy}"
        )


class ComparisonProgress:
    """Follows the runs of a comparison, several at a time."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._finished = 0
        self._printed = time.monotonic()
        self._lock = Lock()
        self._bar = _live_bar()
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        if self._live:
            self._bar.start()
        else:
            print("starting", file=sys.stderr, flush=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._bar.stop()

    def show(self, entry: Entry, state: RunStatus) -> None:
        """Take the state of one run into account; called from several threads."""
        name = f"{entry.label} {entry.point} seed {entry.config.seed}".replace("  ", " ")
        with self._lock:
            if state.finished:
                self._finish(name, state)
            elif self._live:
                self._advance(name, entry, state)
            elif time.monotonic() - self._printed >= PLAIN_SECONDS:
                self._printed = time.monotonic()
                print(f"{name}: {state.arrivals} arrivals", file=sys.stderr, flush=True)

    def _advance(self, name: str, entry: Entry, state: RunStatus) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(name, total=1.0, status="")
        stop = entry.config.stop
        done = state.arrivals / stop.arrivals if stop.arrivals else 0.0
        if stop.virtual_time:
            done = max(done, state.virtual_time / NANOSECONDS / stop.virtual_time)
        status = f"{state.arrivals} arrivals | accuracy {state.test_accuracy or 0.0:.3f}"
        self._bar.update(self._tasks[name], completed=min(1.0, done), status=status)

    def _finish(self, name: str, state: RunStatus) -> None:
        self._finished += 1
        accuracy = state.test_accuracy  # None when only the end was left to resume
        line = f"[{self._finished}] {name}" + ("" if accuracy is None else f": accuracy {accuracy:.3f}")
        if self._live:
            if name in self._tasks:
                self._bar.remove_task(self._tasks.pop(name))
            self._bar.console.print(line, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)


def _live_bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )

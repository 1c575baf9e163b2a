"""Bugs that can be switched on, each with a fast test that must then fail: a suite that never failed proves nothing.

`trial` runs in a forked process: it plants one bug by replacing an attribute and lets pytest run the named tests.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from heapq import heappush
from pathlib import Path
from random import SystemRandom
from typing import Any

import pytest
import torch

from fedrevive.algorithms import aggregation, fedrevive_phases
from fedrevive.core import beta_rule, local_training, schedules
from fedrevive.results import files, folder, lock, snapshots, store
from fedrevive.simulation import executor, loop, timeline
from fedrevive.simulation.server import Server

REPOSITORY = Path(__file__).resolve().parents[2]
SAVED = "tests/crash/test_resume_state.py::test_saving_and_loading_at_every_arrival_changes_nothing"
SAVED_BUFFER = "tests/crash/test_resume_state.py::test_also_with_several_updates_per_version"
SAVED_FAULTS = "tests/crash/test_resume_state.py::test_also_with_faults_and_a_norm_gate"
POWER = "tests/crash/test_power_loss.py::test_nothing_that_was_committed_is_lost"
SUCCESS = "tests/crash/test_power_loss.py::test_success_is_written_when_every_row_has_its_final_place"
STORE = "tests/results/test_store.py"
TRACES = "tests/algorithms/test_golden_traces.py"
POOL = "tests/runtime/test_client_pool.py"
FEDREVIVE = "tests/algorithms/test_fedrevive.py"


@dataclass(frozen=True)
class Bug:
    """One mistake and the tests of which at least one must notice it."""

    name: str
    plant: Callable[[], None]
    tests: tuple[str, ...]


def _after_restore(change: Callable[[Any, Any], Any]) -> Callable[[], None]:
    """Change the server's state whenever it comes from a snapshot; `change(state, initial state)`."""

    def plant() -> None:
        original = Server.restore

        def restore(self: Server, capture: Any) -> Any:
            original(self, capture)
            self._state = change(self._state, self._algorithm.init())
            return self.snapshot()

        Server.restore = restore  # type: ignore[method-assign]

    return plant


def _forgets(name: str) -> Callable[[], None]:
    return _after_restore(
        lambda state, initial: replace(
            state, memory=replace(state.memory, **{name: getattr(initial.memory, name)})
        )
    )


def _forgets_moments(state: Any, _: Any) -> Any:
    old = state.memory.generator
    zero = torch.zeros_like(old.first_moment)
    generator = replace(old, first_moment=zero, second_moment=zero, steps=0)
    return replace(state, memory=replace(state.memory, generator=generator))


def _reversed_teachers(state: Any, _: Any) -> Any:
    return replace(state, memory=replace(state.memory, teachers=state.memory.teachers[::-1]))


def _forgets_pending(state: Any, _: Any) -> Any:
    empty = None if state.delta_sum is None else torch.zeros_like(state.delta_sum)
    return replace(state, delta_sum=empty)


def _sets(owner: Any, name: str, value: Any) -> Callable[[], None]:
    return lambda: setattr(owner, name, value)


def _redispatches(self: Any, server: Any, arrivals: int, bases: Any, tasks: Any) -> None:
    self._current = self._server.restore(server)
    self._arrivals = arrivals
    for task in tasks:
        self._bases.hold(task.base_arrivals, self._current)


def _releases_early(self: Any, arrivals: int) -> None:
    self._models.pop(arrivals, None)


def _forgets_average() -> None:
    original = loop._resume

    def resume(timeline: Any, dispatch: Any, executor: Any, run: Any, snapshot: Any) -> None:
        original(timeline, dispatch, executor, run, dataclasses.replace(snapshot, recent_validation=()))

    loop._resume = resume


def _forgets_norms() -> None:
    original = Server.restore

    def restore(self: Server, capture: Any) -> Any:
        return original(self, replace(capture, gate=replace(capture.gate, norms=capture.gate.norms[:-1])))

    Server.restore = restore  # type: ignore[method-assign]


def _shuffles_idle() -> None:
    original = timeline.Timeline.__init__

    def init(self: Any, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        SystemRandom().shuffle(self._idle)

    timeline.Timeline.__init__ = init  # type: ignore[method-assign]


def _wall_clock_key(heap: Any, event: Any) -> None:
    heappush(heap, (event[0] + time.time_ns() % 1_000_000, *event[1:]))


def _unclamped(*, half_staleness: float) -> Callable[[int], float]:
    import math

    return lambda staleness: 0.5 * (1 - math.cos(math.pi * staleness / (2 * half_staleness)))


def _beta_not_clamped() -> None:
    for module in (schedules, beta_rule):
        module.one_minus_cosine = _unclamped  # type: ignore[attr-defined]


def _accepted(change: Callable[[Any, Any, Any], tuple[Any, Any]]) -> Callable[[], None]:
    """Change state or base before an upload is accepted."""
    original = aggregation.accepted

    def accepted(state: Any, base: Any, update: Any, context: Any) -> Any:
        return original(*change(state, base, update), update, context)

    return _sets(aggregation, "accepted", accepted)


def _own_base(state: Any, base: Any, _: Any) -> tuple[Any, Any]:
    return state, replace(base, model=state.model.numpy())


class _NoSync:
    """`os` with an fsync that does nothing."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fsync(self, descriptor: int) -> None: ...


def _no_folder_sync() -> None:
    for module in (files, folder):
        module.sync_folder = lambda _: None  # type: ignore[attr-defined]


# Ray is not imported by the fork server, which must have a single thread.


def _looks_at_replaced_workers() -> None:
    from fedrevive.runtime.client_pool import ClientPool

    original = ClientPool._replace

    def replace_(self: Any, worker: int, cause: str) -> None:
        asked = {sentinel: call for sentinel, call in self._calls.items() if call.work}
        original(self, worker, cause)
        self._calls |= asked

    ClientPool._replace = replace_  # type: ignore[method-assign]


def _forgets_lost_jobs() -> None:
    from fedrevive.runtime.client_pool import ClientPool

    def add(self: Any, work: Any) -> None:
        if not work.attempts:
            heappush(self._waiting, work)

    ClientPool._add = add  # type: ignore[method-assign]


def _commits_first(self: Any, directory: Path) -> Path:
    return self.published(directory)  # type: ignore[no-any-return]


BUGS = (
    Bug("generator's weights dropped from the snapshot", _forgets("generator"), (SAVED,)),
    Bug("generator's Adam moments dropped", _after_restore(_forgets_moments), (SAVED,)),
    Bug("pool of synthetic samples dropped", _forgets("pool"), (SAVED,)),
    Bug("version of the last synthesis dropped", _forgets("generated_version"), (SAVED_BUFFER,)),
    Bug("class proportions dropped", _forgets("proportions"), (SAVED,)),
    Bug("teachers dropped", _forgets("teachers"), (SAVED,)),
    Bug("teachers in another order after a restart", _after_restore(_reversed_teachers), (SAVED,)),
    Bug("sum of pending updates dropped", _after_restore(_forgets_pending), (SAVED_BUFFER,)),
    Bug("jobs re-dispatched from the current model",
        _sets(executor.InlineExecutor, "restore", _redispatches), (SAVED,)),
    Bug("base model released with its first job", _sets(executor.BaseModels, "release", _releases_early), (SAVED,)),
    Bug("gate forgets the last norm", _forgets_norms, (SAVED_FAULTS,)),
    Bug("moving average of accuracies dropped", _forgets_average,
        ("tests/simulation/test_loop.py::test_a_resumed_run_keeps_the_moving_average",)),
    Bug("global random generator in local training",
        _sets(local_training, "torch_generator", lambda *a, **o: torch.default_generator), (SAVED,)),
    Bug("idle set without an order", _shuffles_idle, (SAVED, "tests/simulation/test_timeline.py")),
    Bug("wall clock in the event key", _sets(timeline, "heappush", _wall_clock_key), (SAVED,)),
    Bug("beta not clamped beyond its horizon", _beta_not_clamped,
        ("tests/core/test_schedules.py::test_one_minus_cosine_published_values",)),
    Bug("staleness counted after the aggregation",
        _accepted(lambda state, base, _: (replace(state, version=state.version + 1), base)), (TRACES,)),
    Bug("delta taken from the server's model", _accepted(_own_base), (TRACES,)),
    Bug("teacher buffer keeps the oldest",
        _sets(fedrevive_phases, "pushed", lambda teachers, teacher, c: (*teachers, teacher)[:c]),
        (f"{FEDREVIVE}::test_teachers_are_newest_first_and_are_the_clients_models",)),
    Bug("content of files not synced", _sets(files, "os", _NoSync()), (POWER,)),
    Bug("folders not synced after a rename", _no_folder_sync, (POWER,)),
    Bug("tables not synced before _SUCCESS", _sets(store, "sync_tables", lambda _: None), (SUCCESS,)),
    Bug("no clean-up of temporary files", _sets(store, "drop_temporaries", lambda _: None),
        ("tests/crash/test_clean_up.py",)),
    Bug("replaced parts stay visible", _sets(store, "drop_parts_except", lambda *_: None),
        (f"{STORE}::test_a_finished_run_keeps_results_and_drops_resume_state",)),
    Bug("rows visible before their commit", _sets(snapshots.Part, "hidden", _commits_first),
        ("tests/crash/test_clean_up.py",)),
    Bug("sha256 of blobs not looked at", _sets(snapshots, "_matches", lambda path, _: path.is_file()),
        (f"{STORE}::test_damage_to_the_newest_snapshot_falls_back_to_the_one_before",)),
    Bug("committed rows committed again", _sets(store.RunStore, "_clear_rows", lambda _: None),
        (f"{STORE}::test_hashes_do_not_depend_on_the_commits",)),
    Bug("a stale result of a replaced worker accepted", _looks_at_replaced_workers,
        (f"{POOL}::test_results_of_a_replaced_worker_are_never_looked_at",)),
    Bug("a lost job not queued again", _forgets_lost_jobs,
        (f"{POOL}::test_everything_a_lost_worker_was_asked_to_do_is_done_by_another",)),
    Bug("lock not held", _sets(lock, "_lock", lambda _: None),
        (f"{STORE}::test_a_second_process_is_told_who_holds_the_folder",)),
)  # fmt: skip
"""In the order of the report."""


def trial(numbers: list[int], output: str, planted: bool) -> None:
    """Run the tests of some bugs, with the bugs in place or without; exits with pytest's code."""
    os.chdir(REPOSITORY)
    for descriptor in (1, 2):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), descriptor)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
    tests = {test for number in numbers for test in BUGS[number].tests}
    for number in numbers if planted else ():
        BUGS[number].plant()
    code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not ray", *sorted(tests)])
    sys.stdout.flush()
    os._exit(int(code))

"""The real command in a forked process that can be made to die, or to meet a full disk, at any file operation.

A fork server imports everything once and has a single thread, so a whole small run costs well under a second.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import sklearn.datasets  # noqa: F401  imported here so that no run pays for it
import typer.main  # noqa: F401

import fedrevive.assemble
import fedrevive.cli.execution
import fedrevive.cli.interrupts
import fedrevive.cli.progress
import fedrevive.experiment
import fedrevive.results.fsck
import fedrevive.tasks.digits  # noqa: F401
from fedrevive.cli.app import run_app

SMALL = ("run", "digits", "task.clients=6", "server.concurrency=3", "client.local_steps=2", "model.width=4",
         "stop.arrivals=14", "snapshots.every_arrivals=4", "snapshots.every_seconds=1000000",
         "evaluation.every_arrivals=6", "faults.nan.jobs=0.1", "server.gate.max_norm_factor=4",
         "algorithm.warmup_versions=2", "algorithm.freeze_versions=1",
         "algorithm.generate_every_versions=2", "algorithm.synthesis_steps=2", "algorithm.synthesis_batch=8",
         "algorithm.pool_capacity=12", "algorithm.distill_steps=2", "algorithm.teacher_capacity=2",
         "compute.device=cpu", "--executor", "inline", "--json")  # fmt: skip
"""Fourteen arrivals, of which the gate rejects seven, three snapshots, and every item of the state in use."""
CREATES = ("open", "write", "fsync", "replace", "mkdir", "ftruncate", "pwrite")
"""Operations that a full or read-only disk refuses."""
DIED = 77
_one_at_a_time = threading.Lock()
"""A start polls all processes, and two polls of one process at once spoil its exit code."""


@dataclass(frozen=True)
class Fault:
    """What happens at the file operation with this number, counted from 1."""

    at: int
    error: int | None = None
    """errno of this and every later operation that creates something; None = the process dies."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """Exit code, or minus the number of the signal."""
    operations: list[str]
    """File operations that it came to, in order; empty after a death."""
    stdout: str
    stderr: str

    @property
    def died(self) -> bool:
        """Whether the fault ended it."""
        return self.code == DIED


class FileOperations:
    """Counts the operations that change files, and strikes at one of them."""

    def __init__(self, fault: Fault | None) -> None:
        self.names: list[str] = []
        self.audited: Counter[str] = Counter()
        self._fault = fault

    def install(self) -> None:
        """Replace the functions of `os`; this process is thrown away afterwards."""
        for name in (*CREATES, "unlink", "rmdir"):
            if name != "write":
                setattr(os, name, self._counted(name, getattr(os, name)))
        fdopen = os.fdopen
        os.fdopen = lambda *arguments, **options: _Written(fdopen(*arguments, **options), self)
        sys.addaudithook(self._audit)

    def strike(self, name: str) -> bool:
        """Count one operation; True when the fault strikes at it."""
        self.names.append(name)
        fault = self._fault
        if fault is None or len(self.names) < fault.at:
            return False
        return len(self.names) == fault.at if fault.error is None else name in CREATES

    def fail(self) -> None:
        """What the fault does."""
        assert self._fault is not None
        if self._fault.error is None:
            os._exit(DIED)
        raise OSError(self._fault.error, os.strerror(self._fault.error))

    def _counted(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*arguments: Any, **options: Any) -> Any:
            reads = name == "open" and not arguments[1] & (os.O_WRONLY | os.O_RDWR)
            if not reads and self.strike(name):
                self.fail()
            return original(*arguments, **options)

        return operation

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        known = {"os.rename": "replace", "os.remove": "unlink", "os.mkdir": "mkdir", "os.rmdir": "rmdir"}
        if event in known:
            self.audited[known[event]] += 1
        elif event == "open" and not isinstance(
            arguments[0], int
        ):  # a number: a stream on what is open already
            self.audited["open"] += bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))


class _Written:
    """A stream whose write may stop half-way."""

    def __init__(self, stream: Any, operations: FileOperations) -> None:
        self._stream = stream
        self._operations = operations

    def write(self, content: Any) -> None:
        if self._operations.strike("write"):
            self._stream.write(bytes(content)[: len(content) // 2])
            self._stream.flush()
            self._operations.fail()
        self._stream.write(content)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return int(self._stream.fileno())

    def __enter__(self) -> _Written:
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()


def start(words: Sequence[str], folder: Path, fault: Fault | None = None) -> ForkServerProcess:
    """Start `fedrevive WORDS` in `folder`; its outputs go to files there."""
    folder.mkdir(parents=True, exist_ok=True)
    return forked(_command, list(words), str(folder), fault)


def forked(target: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """Call a function of an importable module in a fork of the fork server."""
    process: ForkServerProcess = _context().Process(target=target, args=arguments)
    with _one_at_a_time:
        process.start()
    return process


def exit_code(process: ForkServerProcess) -> int | None:
    """Exit code, or minus the number of the signal; None while it runs."""
    with _one_at_a_time:
        return process.exitcode


def ended(process: ForkServerProcess, folder: Path, timeout: float = 240) -> Ended:
    """Wait for a command that `start` began in `folder`."""
    deadline = time.monotonic() + timeout
    while (code := exit_code(process)) is None:
        assert time.monotonic() < deadline, "the command hangs"
        time.sleep(0.005)
    trace = folder / "trace.json"
    names = json.loads(trace.read_text())["names"] if trace.exists() else []
    texts = [(folder / name).read_text(errors="replace") for name in ("stdout", "stderr")]
    return Ended(code, names, *texts)


def command(words: Sequence[str], folder: Path, fault: Fault | None = None) -> Ended:
    """Carry out `fedrevive WORDS` in `folder`, a working directory that is made if need be."""
    return ended(start(words, folder, fault), folder)


def _command(words: list[str], folder: str, fault: Fault | None) -> None:
    os.chdir(folder)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
    Path("trace.json").unlink(missing_ok=True)
    tasks = Path(f"/proc/{os.getppid()}/task").iterdir()
    threads = sum(
        (task / "comm").read_text() != "jemalloc_bg_thd\n" for task in tasks
    )  # it knows about forks
    operations = FileOperations(fault)
    operations.install()
    try:
        code = run_app(words)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    names, audited = operations.names.copy(), dict(operations.audited)
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open("trace.json", os.O_WRONLY | os.O_CREAT, 0o600) if fault is None else None
    if descriptor is not None:
        content = json.dumps({"names": names, "audited": audited, "threads": threads})
        os.write(descriptor, content.encode())
    os._exit(int(code))


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "crash_victim", "planted_bugs"])
    return context


@contextmanager
def fork_server() -> Iterator[None]:
    """Start it in the environment it needs: one thread, or forking would not be safe, and where the modules are."""
    environment = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        first = forked(_require_preloaded)
        first.join()
        assert first.exitcode == 0, "the fork server did not import what its forks need"
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    yield


def _require_preloaded() -> None:
    """Exit code 0 if the fork server, and not this process, has imported everything."""
    os._exit(0 if time.process_time() < 1.0 and "planted_bugs" in sys.modules else 1)

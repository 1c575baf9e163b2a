"""One malformed input through the real command line, in this process: what it did, and whether that is right."""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedrevive.cli import app as command_line
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import LINE_LIMIT, PREFIX, ExitCode
from fedrevive.settings.identity import dump_yaml
from fedrevive.settings.loading import load

HUGE = 100_000_000


class Accepted(BaseException):
    """Raised in place of the first step a command takes once its input has passed every check."""

    def __init__(self, config: ExperimentConfig) -> None:
        super().__init__()
        self.config = config


@dataclass(frozen=True)
class Case:
    """One command line with the files it names."""

    family: str
    words: tuple[str, ...]
    names: tuple[str, ...] = ()
    """The line must hold one of these: the field, option or file; words separated by ' & ' must all be there."""
    files: tuple[tuple[str, bytes | None], ...] = ()
    """Name in the working folder -> content; None = a folder, b'HUGE' = a sparse file of HUGE bytes."""

    def __str__(self) -> str:
        return f"[{self.family}] {' '.join(map(ascii, self.words))} {[(n, c and c[:300]) for n, c in self.files]}"


@dataclass
class Outcome:
    """Tally of many cases."""

    refused: int = 0
    legal: list[Case] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    families: dict[str, int] = field(default_factory=dict)
    slowest: float = 0.0


def judged(cases: Iterator[Case] | list[Case], folder: Path) -> Outcome:
    """Put every case to the command line. The working folder must be `folder`, an empty one below a private parent."""
    outcome = Outcome()
    for case in cases:
        outcome.families[case.family] = outcome.families.get(case.family, 0) + 1
        with written(case, folder):
            _judge(case, folder, outcome)
    return outcome


@contextlib.contextmanager
def written(case: Case, folder: Path) -> Iterator[None]:
    """The case's files in the folder, for a while."""
    for name, content in case.files:
        path = folder / name
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)
            if content == b"HUGE":
                os.truncate(path, HUGE)
    try:
        yield
    finally:
        for name, content in case.files:
            (folder / name).rmdir() if content is None else (folder / name).unlink()


def _judge(case: Case, folder: Path, outcome: Outcome) -> None:
    before = listing(folder.parent)
    out, err = io.StringIO(), io.StringIO()
    started = time.process_time()
    accepted: ExperimentConfig | None = None
    code: Any = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = command_line.run_app(case.words)
        except Accepted as passed:
            accepted = passed.config
    seconds = time.process_time() - started
    outcome.slowest = max(outcome.slowest, seconds)
    if accepted is not None:
        outcome.legal.append(case)
        problems = [] if _loads_back(accepted, folder) else ["accepted, but its dump loads as something else"]
    else:
        problems = list(complaints(case, int(code), out.getvalue(), err.getvalue()))
        outcome.refused += not problems
    if seconds >= 1:
        problems.append(f"took {seconds:.1f} s")
    if listing(folder.parent) != before:
        problems.append("left something on disk")
    outcome.wrong += [f"{problem}: {case} -> {err.getvalue()!r}" for problem in problems]


def complaints(case: Case, code: int, out: str, err: str) -> Iterator[str]:
    """What is wrong with the answer to a malformed input."""
    line = err.removesuffix("\n")
    if code != ExitCode.USER:
        yield f"exit code {code}"
    if out:
        yield "something on standard output"
    if not line.startswith(PREFIX) or not err.endswith("\n"):
        yield "no error line"
    if not (line.isascii() and line.isprintable()):
        yield "not one printable ASCII line"
    if len(line) > LINE_LIMIT:
        yield f"{len(line)} characters"
    if case.names and not any(all(part in line for part in name.split(" & ")) for name in case.names):
        yield f"names none of {case.names}"


def listing(folder: Path) -> list[tuple[str, int]]:
    """Every file and folder with its size."""
    found = []
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            found.append((entry.path, -1))
            found += listing(Path(entry.path))
        else:
            found.append((entry.path, entry.stat(follow_symlinks=False).st_size))
    return sorted(found)


def _loads_back(config: ExperimentConfig, folder: Path) -> bool:
    path = folder / "dumped.yaml"
    path.write_text(dump_yaml(config), encoding="utf-8")
    try:
        return load(str(path)) == config
    finally:
        path.unlink()

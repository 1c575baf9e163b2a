"""The error contract: one ASCII line of at most 300 characters that names the field, the value and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

LINE_LIMIT = 300
PREFIX = "error: "
_VALUE_LIMIT = 60
_PLACE_LIMIT = 100


class ExitCode(IntEnum):
    """What the process returns; part of the command line's contract."""

    DONE = 0
    BUG = 1
    """Ours."""
    USER = 2
    """Anything the user typed or pointed at."""
    CORRUPT = 3
    """A results folder whose content fails its checks."""
    RUNNING = 4
    """Another process holds the results folder."""
    ENVIRONMENT = 5
    """Disk, permission, memory, GPU."""
    POLICY = 6
    """Stopped by a rule: diverged, or nobody can finish."""
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    """The reader of our output went away (128 + SIGPIPE, what a shell reports)."""
    TERMINATED = 143


class UserError(Exception):
    """Something outside the program is wrong and the user can put it right; shown as one line, never as a traceback.

    Args:
        message: `key.path: what was got; what is allowed or what to do`, in this order.
        place: where it was written, such as `line 7 of cfg.yaml`; empty for the command line.
        more: how many further problems were found.
        exit_code: which class of failure this is, an `ExitCode`.
    """

    def __init__(
        self, message: str, *, place: str = "", more: int = 0, exit_code: int = ExitCode.USER
    ) -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.more = more
        self.exit_code = exit_code

    def __str__(self) -> str:
        tail = f" ({_cut_left(self.place)})" if self.place else ""
        tail += f" (+{self.more} more)" if self.more else ""
        return one_line(self.message, tail, LINE_LIMIT - len(PREFIX))


def one_line(text: str, tail: str = "", limit: int = LINE_LIMIT) -> str:
    """`text + tail` as printable ASCII within `limit` characters; `text` gives way, `tail` stays whole."""
    room = limit - len(ascii_text(tail))
    flat = ascii_text(text)
    return (flat if len(flat) <= room else flat[: room - 3] + "...") + ascii_text(tail)


def ascii_text(text: str) -> str:
    """Escape whatever is not printable ASCII, line ends and terminal control codes included."""
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode("ascii") for c in text)


def shown(value: Any) -> str:
    """A value as the user would write it, at most 60 characters."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return f"'{_cut(value)}'"
    return _cut(repr(value))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known name; empty when none is near."""
    near = difflib.get_close_matches(name[:100], list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _cut(text: str) -> str:
    return text if len(text) <= _VALUE_LIMIT else text[: _VALUE_LIMIT - 3] + "..."


def _cut_left(text: str) -> str:
    flat = ascii_text(text)
    if len(flat) <= _PLACE_LIMIT:
        return flat
    head, _, name = flat.partition(" of ")
    keep = _PLACE_LIMIT - len(head) - len(" of ...")
    return f"{head} of ...{name[-keep:]}" if name and keep > 0 else flat[:_PLACE_LIMIT]

"""Strict YAML for configuration files: 1.2 numbers, and nothing whose meaning depends on the reader.

Built on PyYAML's event stream, which constructs no objects; the resolver and the limits are ours.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import yaml

from fedrevive.settings.errors import UserError, shown

MAX_BYTES = 1 << 16
MAX_NESTING = 20
MAX_NUMBER_LENGTH = 100

_CONSTANTS = {"": None, "~": None} | {
    spelling: value
    for word, value in (("null", None), ("true", True), ("false", False))
    for spelling in (word, word.capitalize(), word.upper())
}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_REFUSED = (
    (re.compile(r"[-+]?0[0-9]+"), "has a leading zero (octal in some readers)"),
    (re.compile(r"[-+]?0[oOxXbB][0-9a-fA-F_]+"), "is an octal, hexadecimal or binary number"),
    (re.compile(r"(?=.*_)[-+]?\.?[0-9][0-9_.]*([eE][-+]?[0-9_]+)?"), "has an underscore inside a number"),
    (re.compile(r"[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?"), "is a base-60 number in some readers"),
    (re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"), "is not a finite number"),
)


def read(content: bytes, name: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Parse one configuration file.

    Args:
        content: the file's bytes.
        name: how the file is called in errors.

    Returns:
        The nested values and, for every dotted path, the line of its key (from 1).

    Raises:
        UserError: not UTF-8, larger than 64 KiB, a tab, an anchor, alias or tag, a duplicate key, several documents,
            nesting beyond 20, a number that YAML readers disagree about, or no mapping at the top.
    """
    if len(content) > MAX_BYTES:
        raise UserError(f"file: larger than {MAX_BYTES} bytes; a configuration is a few lines", place=name)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError("file: not UTF-8 text; save it as UTF-8", place=f"line {line} of {name}") from None
    reader = _Reader(text, name)
    values = reader.document()
    if not isinstance(values, dict):
        reader.refuse("", f"{shown(values)} is not a mapping; write lines of `key: value`", 0)
    return values, reader.lines


def read_scalar(text: str) -> Any:
    """A value typed on the command line: the plain scalars of a file, or a flow mapping, list or quoted text.

    Raises:
        UserError: under the same rules as `read`.
    """
    stripped = text.strip()
    if stripped[:1] in ("{", "[", '"', "'"):
        return _Reader(stripped, "").document()
    try:
        return _plain(stripped)
    except ValueError as error:
        raise UserError(str(error)) from None


def _plain(text: str) -> Any:
    """Resolve a plain scalar by YAML 1.2's core schema; whatever is no number, boolean or null is a string."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    for pattern, complaint in _REFUSED:
        if pattern.fullmatch(text):
            raise ValueError(f"{shown(text)} {complaint}; write it in plain decimals, or quote it as a text")
    if not _FLOAT.fullmatch(text):
        return text
    if len(text) > MAX_NUMBER_LENGTH:
        raise ValueError(f"{shown(text)} has more than {MAX_NUMBER_LENGTH} digits")
    if _INTEGER.fullmatch(text):
        return int(text)
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{shown(text)} is too large for a number")
    return number


class _Reader:
    """Builds plain values from the events of one document, keeping the line of every key."""

    def __init__(self, text: str, name: str) -> None:
        self.lines: dict[str, int] = {}
        self._text = text
        self._name = name
        self._events: Iterator[yaml.Event] = iter(())

    def document(self) -> Any:
        """The value of the only document; an empty text is an empty mapping."""
        if "\t" in self._text:
            self.refuse("", "a tab; use spaces", self._text.count("\n", 0, self._text.index("\t")))
        try:
            return self._document()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self.refuse("", f"{error.problem or error.context}", mark.line if mark else 0)
        except yaml.reader.ReaderError as error:
            line = self._text.count("\n", 0, error.position)
            self.refuse("", f"character {int(error.character):#06x} is not allowed", line)
        except (
            ValueError,
            OverflowError,
        ):  # PyYAML lets an impossible \U escape or a huge %YAML version through
            self.refuse("", "an escape or directive that names no character or version", 0)

    def refuse(self, path: str, problem: str, line: int) -> NoReturn:
        """Raise for a problem at the dotted `path` ('' = the document) on `line` (from 0)."""
        where = path or ("file" if self._name else "")
        message = f"{where}: {problem}" if where else problem
        raise UserError(message, place=f"line {line + 1} of {self._name}" if self._name else "") from None

    def _document(self) -> Any:
        self._events = yaml.parse(self._text, Loader=yaml.SafeLoader)
        next(self._events)  # stream start
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return {}
        value = self._node(next(self._events), "", 0)
        next(self._events)  # document end
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            self.refuse("", "a second document; keep one", _line(after))
        return {} if value is None else value

    def _node(self, event: yaml.Event, path: str, depth: int) -> Any:
        line = _line(event)
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            self.refuse(path, "an anchor or alias; write the value out", line)
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag is not None:
            self.refuse(path, f"the tag {shown(event.tag)}; write a plain value", line)
        if depth > MAX_NESTING:
            self.refuse(path, f"nested deeper than {MAX_NESTING}", line)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path, depth)
        assert isinstance(event, yaml.ScalarEvent)
        if event.style is not None:
            return event.value
        try:
            return _plain(event.value)
        except ValueError as error:
            self.refuse(path, f"{error}", line)

    def _mapping(self, path: str, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = _line(event)
            if not isinstance(event, yaml.ScalarEvent) or event.anchor is not None or event.tag is not None:
                self.refuse(path, "a key that is not a plain word", line)
            key = event.value
            inner = f"{path}.{key}" if path else key
            if key in values:
                self.refuse(inner, f"given twice; first on line {self.lines[inner]}", line)
            self.lines.setdefault(inner, line + 1)
            values[key] = self._node(next(self._events), inner, depth + 1)
        return values

    def _sequence(self, path: str, depth: int) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            values.append(self._node(event, f"{path}.{len(values)}", depth + 1))
        return values


def _line(event: yaml.Event) -> int:
    return event.start_mark.line if event.start_mark is not None else 0

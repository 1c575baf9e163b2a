"""Values that a field must refuse, as text a user could type."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from field_walk import beyond, fits

_ALWAYS_REFUSED = (
    *("1_000", "1e1_0", "017", "-08", "0o17", "0x1F", "0b101", "1:30", "1:30:15.5", "1e400", "-1e999"),
    *(
        ".nan",
        ".NaN",
        ".inf",
        "-.inf",
        "9" * 101,
        "[1, 2",
        "{a: 1",
        '"open',
        "[1] [2]",
        "{a: *b}",
        "[!!int 3]",
    ),
    *("{a: 1, a: 2}", "[&x 1]", "[" * 25 + "]" * 25, '"\\U00110000"', "[1_0]", "[1, .nan]", "{b: 0o17}"),
)
"""Whatever the field is: numbers that readers disagree about or that are not finite, and broken YAML."""

_OF_EVERY_TYPE: tuple[tuple[str, Any], ...] = (
    ("abc", "abc"),
    ("yes", "yes"),
    ("nan", "nan"),
    ("inf", "inf"),
    ('"3"', "3"),
    ('"1_000"', "1_000"),
    ('""', ""),
    ("true", True),
    ("FALSE", False),
    ("null", None),
    ("~", None),
    ("-1", -1),
    ("3", 3),
    ("3.5", 3.5),
    ("1e-3", 1e-3),
    ("9223372036854775808", 2**63),
    ("99999999999999999999999999", 99999999999999999999999999),
    ("1e300", 1e300),
    ("[]", []),
    ("[1, 2]", [1, 2]),
    ("[x, null]", ["x", None]),
    ("{}", {}),
    ("{a: 1}", {"a": 1}),
    ('"caf\u00e9 \\U0001F600"', "caf\u00e9 \U0001f600"),
    ('"a\\0b"', "a\0b"),
    ('"../../etc/x"', "../../etc/x"),
    ('"a\\nb"', "a\nb"),
)


_PATH_ENDINGS = ("dir", "path", "file", "folder", "output")


def is_path(name: str) -> bool:
    """Whether a dotted path names a field that holds a path."""
    return name.rpartition(".")[2].endswith(_PATH_ENDINGS)


def path_texts() -> tuple[str, ...]:
    """What every field that holds a path must refuse, whatever its schema says: no file system takes these."""
    values = ("x" * 5000, "a/" * 2500, "a/" + "x" * 300, "a\x00b", "a\nb", "a\tb", "\x1b[31m", "a\x7fb")
    return tuple(json.dumps(value).replace("\x7f", "\\x7f") for value in values)


def bad_texts(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    """YAML scalars and flow collections that the field `name`, a dotted path, with this schema must refuse."""
    yield from _ALWAYS_REFUSED
    yield from (text for text, value in _OF_EVERY_TYPE if not fits(schema, value))
    yield from (json.dumps(value) for value in beyond(schema) if not fits(schema, value))
    yield from path_texts() if is_path(name) else ()

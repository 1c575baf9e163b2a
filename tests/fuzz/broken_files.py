"""Files that are no configuration: what YAML readers disagree about, bombs, other encodings, damaged bytes."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from verdict import Case

from fedrevive.settings.yaml_reader import MAX_BYTES

Draw = random.Random

EXPERIMENT = b"""name: mine
seed: 3
task:
  name: digits
  clients: 50
  partition: {kind: dirichlet, alpha: 0.3}
client:
  lr: 0.001
  local_steps: 5
delays:
  kind: uniform
  low: 0.5
  high: 1.5
server:
  concurrency: 10
  lr: 0.1
algorithm:
  name: fedrevive
  teacher_capacity: 4
  beta:
    family: constant
    value: 0.5
stop:
  arrivals: 100
per_algorithm:
  fedbuff:
    server.lr: 0.05
"""
SEARCH = b"""experiment: digits
overrides:
  stop.arrivals: 20
search:
  searcher: random
  trials: 3
  seeds: [0, 1]
  objective: final_accuracy
  scheduler:
    kind: fifo
  space:
    server.lr: {loguniform: [0.01, 1.0]}
    algorithm.beta.family:
      choice:
        linear:
          algorithm.beta.slope: {uniform: [0.01, 0.2]}
        constant:
"""
STUDY = b"""name: small
common: stop.arrivals=18
settings:
  skewed: digits task.partition.alpha=0.1
  even: digits task.partition.alpha=5
algorithms: [fedbuff:server.lr=0.05/0.5, fedrevive:server.lr=0.05/0.5]
controls: [fedrevive:pool=noise]
seeds: [0, 1]
"""
VALID = {"run": EXPERIMENT, "tune": SEARCH, "study": STUDY}
"""Command -> a file it accepts."""


def broken_file(draw: Draw) -> Case:
    """A file of one of the three kinds with one thing wrong in it."""
    command = draw.choice(["run", "run", "tune", "study"])
    name = draw.choice(
        ["cfg.yaml", "my file.yml", "caf\u00e9.yaml", "x" * 200 + ".yaml", "-odd-.yaml", "a'b\".yaml"]
    )
    word = f"./{name}" if name.startswith("-") else name
    family, content = draw.choice(_RARE if draw.random() < 0.02 else _WAYS)(VALID[command], draw)
    return Case(f"file: {family}", (command, word), _named(content), ((name, content),))


def _named(content: bytes | None) -> tuple[str, ...]:
    """The file by a piece of its name, or one of its keys at the front, or what is missing in it."""
    start = (content or b"")[:5000]
    keys = re.findall(rb"[A-Za-z_]{3,}", start) + re.findall(rb"[^\s:,{}\[\]\x00-\x1f\x7f-\xff]{3,}", start)
    missing = ("stop", "name", "settings", "experiment", "search", "algorithms", "seeds")
    first = {f"error: {key}" for key in (*missing, *(key.decode("ascii") for key in keys))}
    return ("(settings.", "cfg.yaml", "file.yml", "caf", "xxxx", "-odd-", "a'b", *sorted(first))


Way = Callable[[bytes, Draw], tuple[str, bytes | None]]


def _line_of(content: bytes, draw: Draw) -> tuple[list[bytes], int]:
    lines = content.splitlines(keepends=True)
    return lines, draw.randrange(len(lines))


def _inserted(content: bytes, draw: Draw, what: bytes) -> bytes:
    at = draw.randrange(len(content))
    return content[:at] + what + content[at:]


def _duplicate_key(content: bytes, draw: Draw) -> tuple[str, bytes]:
    lines, at = _line_of(content, draw)
    top = [i for i, line in enumerate(lines) if re.match(rb"[a-z_]+: \S", line)] or [0]
    at = draw.choice(top)
    return "duplicate key", b"".join([*lines[: at + 1], lines[at], *lines[at + 1 :]])


def _tag(content: bytes, draw: Draw) -> tuple[str, bytes]:
    tags = [b"!!python/object/apply:os.system [ls]", b"!!python/name:os.system x", b"!!int 3", b"!x y", b"! z",
            b"!!binary aGVsbG8=", b"!!set {a}", b"!!timestamp 2026-01-01", b"!!python/object/new:type [a]"]  # fmt: skip
    return "tag", content + b"extra" + str(draw.randint(0, 99)).encode() + b": " + draw.choice(tags) + b"\n"


def _anchor(content: bytes, draw: Draw) -> tuple[str, bytes]:
    ends = [
        b"a%d: &x 1\n",
        b"a%d: &x {b: 1}\nb: *x\n",
        b"a%d: &x [1]\nb: {<<: *x}\n",
        b"&k a%d: 1\n",
        b"a%d: *nowhere\n",
    ]
    return "anchor", content + draw.choice(ends) % draw.randint(0, 99)


def _alias_bomb(content: bytes, draw: Draw) -> tuple[str, bytes]:
    width, depth = draw.randint(5, 12), draw.randint(5, 12)
    lines = [b"a0: &a0 [x]\n"]
    for level in range(1, depth):
        below = b", ".join([b"*a%d" % (level - 1)] * width)
        lines += [b"a%d: &a%d [%s]\n" % (level, level, below)]
    return "alias bomb", b"".join(lines) + content


def _deep(content: bytes, draw: Draw) -> tuple[str, bytes]:
    depth = draw.choice([25, 100, 1000, 20_000])
    opening = draw.choice([b"[", b"{a: ", b"- " if depth < 1000 else b"["])
    closing = {b"[": b"]", b"{a: ": b"}", b"- ": b""}[opening]
    return "deep nesting", content + b"deep%d: \n  " % draw.randint(
        0, 99
    ) + opening * depth + b"1" + closing * depth + b"\n"


def _other_encoding(content: bytes, draw: Draw) -> tuple[str, bytes]:
    text = content.decode()
    changed = [
        text.encode("utf-16"),
        text.encode("utf-16-be"),
        text.encode("utf-32"),
        text.replace("name", "n\u00e4me", 1).encode("latin-1", "replace") + b"\xe9: 1\n",
        _inserted(content, draw, b"\xff\xfe"),
        _inserted(content, draw, b"\xc0\xaf"),
        _inserted(content, draw, b"\xed\xa0\x80"),
    ]
    return "encoding", draw.choice(changed)


def _control_character(content: bytes, draw: Draw) -> tuple[str, bytes]:
    return "control character", _inserted(
        content, draw, draw.choice([b"\0", b"\x07", b"\x1b[31m", b"\x7f", b"\x08"])
    )


def _tab(content: bytes, draw: Draw) -> tuple[str, bytes]:
    return "tab", _inserted(content, draw, b"\t")


def _not_a_mapping(content: bytes, draw: Draw) -> tuple[str, bytes]:
    texts = [
        b"- 1\n",
        b"just text %d\n",
        b"[1, 2, %d]\n",
        b"%d\n",
        b"'quoted %d'\n",
        b"null: [%d]\n- x\n",
        b"--- \n- %d\n",
    ]
    chosen = draw.choice(texts)
    return "no mapping", chosen % draw.randint(0, 10**6) if b"%d" in chosen else chosen


def _two_documents(content: bytes, draw: Draw) -> tuple[str, bytes]:
    lines, at = _line_of(content, draw)
    return "two documents", b"".join([*lines[:at], b"a: 1\n---\n", *lines[at:]])


def _broken_flow(content: bytes, draw: Draw) -> tuple[str, bytes]:
    ends = [b"q: [1, 2\n", b"q: {a: 1\n", b"q: 'open\n", b'q: "\\q"\n', b"q: ]\n", b"q: a: b\n", b"q: @x\n", b"q: `x\n",
            b"? [a]\n: 1\n", b"q: |\n x\ny\n", b"q: %x\n", b"%YAML 9999999999999999999.1\n---\na: 1\n"]  # fmt: skip
    return "broken YAML", content + b"z%d: 1\n" % draw.randint(0, 99) + draw.choice(ends)


def _no_content(content: bytes, draw: Draw) -> tuple[str, bytes]:
    return "empty", draw.choice(
        [b"", b"\n" * draw.randint(1, 50), b"# nothing\n", b"---\n", b"\xef\xbb\xbf", b"{}\n"]
    )


def _huge(content: bytes, draw: Draw) -> tuple[str, bytes]:
    return "huge", draw.choice([b"HUGE", content + b"#" * MAX_BYTES])


def _long(content: bytes, draw: Draw) -> tuple[str, bytes]:
    unit = draw.choice([b"k%d: 1\n", b"k%d: [1, 2, 3]\n", b"k%d: {a: 1}\n"])
    lines = b"".join(unit % number for number in range((MAX_BYTES - 2000) // (len(unit) + 3)))
    return "long", draw.choice([lines + content, content + lines])


def _folder(content: bytes, draw: Draw) -> tuple[str, None]:
    return "a folder", None


def _cut(content: bytes, draw: Draw) -> tuple[str, bytes]:
    """Cut within a word, so that a key or a value is not whole."""
    places = [match.start() + 1 for match in re.finditer(rb"(?m)(?<=^)[ ]*[a-z_]{3,}", content)]
    return "cut off", content[: draw.choice(places) + draw.randint(1, 3)]


def _mutated(content: bytes, draw: Draw) -> tuple[str, bytes]:
    data = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data))
        how = draw.randrange(5)
        if how == 0:
            data[at] ^= 1 << draw.randrange(8)
        elif how == 1:
            del data[at : at + draw.randint(1, 5)]
        elif how == 2:
            data[at:at] = bytes([draw.choice(b"\"'{}[]:,&*!|>%@`#?-\\\x00\x7f\xff")])
        elif how == 3:
            data[at] = draw.randrange(256)
        else:
            data[at:at] = data[draw.randrange(len(data)) :][:10]
    return "mutated bytes", bytes(data)


_WAYS: tuple[Way, ...] = (
    *(
        _duplicate_key,
        _tag,
        _anchor,
        _alias_bomb,
        _deep,
        _other_encoding,
        _control_character,
        _tab,
        _not_a_mapping,
    ),
    *(_two_documents, _broken_flow, _no_content, _folder, _cut, *[_mutated] * 6),
)
_RARE: tuple[Way, ...] = (_huge, _long)  # slow ones

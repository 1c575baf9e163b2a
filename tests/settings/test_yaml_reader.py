import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrevive.settings.errors import UserError
from fedrevive.settings.yaml_reader import MAX_BYTES, MAX_NESTING, read, read_scalar


def parsed(text: str) -> dict:
    return read(text.encode(), "cfg.yaml")[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        ("-2.5", -2.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("+7", 7),
        ("0", 0),
        ("-0.0", -0.0),
        ("9223372036854775807", 2**63 - 1),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("off", "off"),
        ("'1e-3'", "1e-3"),
        ('"017"', "017"),
        ("2026-01-01", "2026-01-01"),
        ("1.2.3", "1.2.3"),
        ("nan", "nan"),
    ],
)
def test_plain_scalars_follow_the_core_schema(text, value):
    for found in (read_scalar(text), parsed(f"a: {text}")["a"]):
        assert found == value
        assert type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        *("1_000", "1_0.5", "1e1_0", "017", "-08", "0o17", "0x1F", "0b1", "1:30", "1:30:15.5"),
        *(".inf", "-.INF", ".nan", "1e999", "9" * 101),
    ],
)
def test_numbers_that_readers_disagree_about_are_refused_with_key_and_line(text):
    with pytest.raises(UserError) as caught:
        parsed(f"server:\n  lr: {text}\n")
    assert caught.value.message.startswith("server.lr: ")
    assert caught.value.place == "line 2 of cfg.yaml"
    with pytest.raises(UserError):
        read_scalar(text)


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a: given twice; first on line 1"),
        ("s:\n  a: 1\n  a: 2\n", 3, "s.a: given twice; first on line 2"),
        ("a: &x 1\n", 1, "anchor"),
        ("a: 1\nb: *x\n", 2, "alias"),
        ("a: &x {b: 1}\n", 1, "anchor"),
        ("&x a: 1\n", 1, "plain word"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, "tag"),
        ("a: !!int 3\n", 1, "tag"),
        ("a: ! x\n", 1, "tag"),
        ("? [a]\n: 1\n", 1, "plain word"),
        ("a:\n\tb: 1\n", 2, "tab"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ("a: [1, 2\n", 2, "expected"),
        ("a: 1\n b: 2\n", 2, "mapping values"),
        ("- 1\n", 1, "not a mapping"),
        ("just text\n", 1, "not a mapping"),
        ('a: "\\U00110000"\n', 1, "escape"),
        ("a: 1\nb: \x07\n", 2, "0x0007"),
        ("a: [" * 30 + "]" * 30, 1, "nested deeper"),
    ],
)
def test_what_a_reader_could_take_otherwise_is_refused(text, line, word):
    with pytest.raises(UserError) as caught:
        parsed(text)
    assert word in caught.value.message
    assert caught.value.place == f"line {line} of cfg.yaml"


def test_lines_name_every_key():
    values, lines = read(b"a: 1\n\n# why\ns:\n  b: 2\n  t: {c: 3}\n", "cfg.yaml")
    assert values == {"a": 1, "s": {"b": 2, "t": {"c": 3}}}
    assert lines == {"a": 1, "s": 4, "s.b": 5, "s.t": 6, "s.t.c": 6}


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"---\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_an_empty_mapping(content):
    assert read(content, "cfg.yaml") == ({}, {})


def test_other_encodings_are_named_with_their_line():
    with pytest.raises(UserError, match="UTF-8") as caught:
        read("a: 1\nb: caf\u00e9\n".encode("latin-1"), "cfg.yaml")
    assert caught.value.place == "line 2 of cfg.yaml"


def test_limits_are_quick_to_apply():
    started = time.perf_counter()
    for content in (b"#" * (MAX_BYTES + 1), b"[" * 20_000, b"{a: " * 20_000, b"a:\n" * 20_000):
        with pytest.raises(UserError):
            read(content, "cfg.yaml")
    assert time.perf_counter() - started < 5


def test_nesting_up_to_the_limit_is_read():
    value = read_scalar("[" * MAX_NESTING + "]" * MAX_NESTING)
    for _ in range(MAX_NESTING - 1):
        (value,) = value
    assert value == []


def test_flow_values_on_the_command_line():
    assert read_scalar("{kind: uniform, low: 1e-1}") == {"kind": "uniform", "low": 0.1}
    assert read_scalar("[1, a, null]") == [1, "a", None]
    assert read_scalar("results/a: b # c") == "results/a: b # c"
    for text in ("{a: 1", "[1] [2]", "{a: 1_0}", "'open", "{a: *b}"):
        with pytest.raises(UserError):
            read_scalar(text)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(alphabet="ab:-[]{}#&*!|>'\"%@`?,\\ \n\t.0189_\u2028\ud800", max_size=60),
    )
)
def test_garbage_raises_nothing_but_user_errors(garbage):
    content = garbage.encode("utf-8", "surrogatepass") if isinstance(garbage, str) else garbage
    try:
        values, lines = read(content, "cfg.yaml")
    except UserError:
        return
    assert set(values) <= set(lines)


@settings(max_examples=200, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70))
def test_a_number_as_python_writes_it_is_read_back(number):
    found = read_scalar(repr(number))
    assert found == number
    assert type(found) is type(number)
    assert not isinstance(found, float) or math.copysign(1, found) == math.copysign(1, number)

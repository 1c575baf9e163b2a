import copy

from hypothesis import given
from hypothesis import strategies as st

from fedrevive.settings.errors import LINE_LIMIT, PREFIX, ExitCode, UserError, did_you_mean, one_line, shown


@given(st.text(max_size=600), st.text(max_size=200), st.integers(0, 9999))
def test_every_error_is_one_short_ascii_line(message, place, more):
    line = f"{PREFIX}{UserError(message, place=place, more=more)}"
    assert len(line) <= LINE_LIMIT
    assert line.isascii()
    assert line.isprintable()
    assert not more or line.endswith(f"(+{more} more)")


def test_the_place_survives_a_long_message_and_a_long_file_name():
    line = str(UserError("x" * 500, place=f"line 7 of {'deep/' * 40}cfg.yaml", more=3))
    assert "line 7 of ..." in line
    assert line.endswith("deep/cfg.yaml) (+3 more)")


def test_an_error_is_rebuilt_whole_by_the_protocol_that_pickling_uses():
    error = UserError("a: b", place="line 1 of x", more=2, exit_code=ExitCode.CORRUPT)
    again = copy.copy(error)
    assert (str(again), again.exit_code) == (str(error), ExitCode.CORRUPT)


def test_values_are_shown_as_the_user_writes_them():
    assert [shown(v) for v in (None, True, 3.0, "a", {}, [1])] == [
        "null",
        "true",
        "3.0",
        "'a'",
        "a mapping",
        "a list",
    ]
    assert len(shown("a" * 500)) == 62
    assert one_line("a\x1b[31m\nb\u00e9") == "a\\x1b[31m\\nb\\xe9"


def test_the_nearest_name_is_suggested_only_when_near():
    assert (
        did_you_mean("teacher_capicity", ["pool_capacity", "teacher_capacity"])
        == "; did you mean 'teacher_capacity'?"
    )
    assert did_you_mean("zzz", ["alpha"]) == ""

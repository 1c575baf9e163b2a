"""Rows, content hashes and summaries against slow obvious forms."""

from __future__ import annotations

import io
import struct
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrevive.results.schemas import EVALUATIONS, EVENTS, RUNS, TABLES
from fedrevive.results.tables import (
    model_hash,
    moving_average,
    parquet_bytes,
    read_runs,
    summary,
    table_from_rows,
    table_hash,
    write_runs,
)
from fedrevive.settings.errors import ExitCode, UserError

INT64 = st.none() | st.integers(-(2**63), 2**63 - 1)
ROWS = st.lists(st.tuples(INT64, st.none() | st.floats(), st.none() | st.text(), st.none() | st.booleans()))
SCHEMA = pa.schema([("i", pa.int64()), ("f", pa.float64()), ("s", pa.string()), ("b", pa.bool_())])


def table_of(rows):
    return pa.Table.from_pylist([dict(zip("ifsb", row, strict=True)) for row in rows], schema=SCHEMA)


def canonical(row):
    """Equal exactly for rows that count as equal: bit patterns, all NaN alike."""
    number = row[1] if row[1] is None or row[1] != row[1] else struct.pack("<d", row[1])
    return (row[0], "nan" if number is not None and number != number else number, row[2], row[3])


@given(rows=ROWS, cuts=st.lists(st.integers(0, 20)), group=st.integers(1, 5))
def test_hash_ignores_chunks_and_parquet_layout(rows, cuts, group):
    whole = table_of(rows)
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    chunked = pa.concat_tables([whole.slice(a, b - a) for a, b in pairwise(edges)])
    file = io.BytesIO()
    pq.write_table(chunked, file, row_group_size=group, compression="snappy")
    assert table_hash(chunked) == table_hash(whole) == table_hash(pq.read_table(file))


@given(a=ROWS, b=ROWS)
def test_hashes_are_equal_exactly_for_equal_content(a, b):
    same = [canonical(row) for row in a] == [canonical(row) for row in b]
    assert (table_hash(table_of(a)) == table_hash(table_of(b))) == same


@given(rows=ROWS.filter(bool), data=st.data())
def test_hash_sees_a_change_of_any_single_value(rows, data):
    index, column = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.integers(0, 3))
    kinds = (INT64, st.none() | st.floats(), st.none() | st.text(), st.none() | st.booleans())
    row = list(rows[index])
    row[column] = data.draw(kinds[column])
    changed = [*rows[:index], tuple(row), *rows[index + 1 :]]
    assert (table_hash(table_of(rows)) == table_hash(table_of(changed))) == (
        canonical(rows[index]) == canonical(tuple(row))
    )


def test_hash_covers_names_types_and_order_but_not_metadata():
    one = pa.table({"a": [1, 2]})
    assert table_hash(one) == table_hash(one.replace_schema_metadata({"x": "y"}))
    others = [
        pa.table({"b": [1, 2]}),
        pa.table({"a": [2, 1]}),
        pa.table({"a": [1.0, 2.0]}),
        pa.table({"a": ["1", "2"]}),
        pa.table({"a": [1, 2], "b": [1, 2]}),
    ]
    assert len({table_hash(table) for table in [one, *others]}) == 6
    assert table_hash(pa.table({"a": ["ab", "c"]})) != table_hash(pa.table({"a": ["a", "bc"]}))
    with pytest.raises(TypeError, match="int32"):
        table_hash(pa.table({"a": pa.array([1], pa.int32())}))


def test_every_nan_is_one_value():
    payload = np.array([0x7FF8000000000001, 0xFFF8000000000000], np.uint64).view(np.float64)
    assert table_hash(pa.table({"a": payload})) == table_hash(pa.table({"a": [float("nan")] * 2}))


def test_model_hash_covers_names_shapes_dtypes_bytes_but_not_memory_order():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert model_hash({"a": array}) == model_hash({"a": np.asfortranarray(array)})
    assert model_hash({"a": array, "b": array}) == model_hash({"b": array, "a": array})
    others = [
        {"b": array},
        {"a": array.T},
        {"a": array.reshape(3, 2)},
        {"a": array.astype("f8")},
        {"a": array + 1},
    ]
    others += [
        {"a": array.view(np.int32)},
        {"a": np.float32(1.0).reshape(())},
        {"a": np.empty((0, 3), np.float32)},
    ]
    assert len({model_hash(model) for model in [{"a": array}, *others]}) == 9


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"reason": None}, "'reason' is required"),
        ({"sequence": 1.5}, "'sequence' is 1.5"),
        ({"sequence": True}, "'sequence' is True"),
        ({"kind": 3}, "'kind' is 3"),
        ({"staleness": 3}, "staleness"),
    ],
)
def test_rows_that_do_not_fit_are_named(row, named):
    good = {"sequence": 0, "virtual_time": 0, "kind": "rejected_update", "reason": "not finite"}
    assert table_from_rows(EVENTS, [good])["client"].to_pylist() == [None]
    with pytest.raises(ValueError, match=named):
        table_from_rows(EVENTS, [good | row])


def test_every_column_states_unit_and_description():
    for schema in (*TABLES.values(), RUNS):
        assert schema.metadata[b"schema_version"] == b"1"
        for field in schema:
            assert field.metadata[b"unit"]
            assert field.metadata[b"description"]


def test_parquet_keeps_the_schema_and_checksums_its_pages():
    numbers = np.random.default_rng(0).integers(0, 2**60, 500)
    table = table_from_rows(
        EVENTS, [{"sequence": int(n), "virtual_time": 0, "kind": "x", "reason": "y"} for n in numbers]
    )
    content = parquet_bytes(table).to_pybytes()
    file = pq.ParquetFile(io.BytesIO(content))
    assert file.schema_arrow.equals(EVENTS, check_metadata=True)
    start = file.metadata.row_group(0).column(0).dictionary_page_offset
    refused = 0
    for position in range(start, start + file.metadata.row_group(0).column(0).total_compressed_size, 31):
        damaged = bytearray(content)
        damaged[position] ^= 4
        try:
            read = pq.read_table(io.BytesIO(damaged), page_checksum_verification=True)
        except (OSError, pa.ArrowException):
            refused += 1
        else:
            assert read.equals(table)  # a page header's statistics: unused by the reader
    assert refused > 100


def test_run_rows_round_trip(tmp_path):
    row = dict.fromkeys(("label", "configuration", "algorithm", "run_id", "status"), "a") | {
        "selected": True,
        "seed": 1,
        "arrivals": 2,
        "versions": 3,
    }
    row |= {
        "virtual_time": 4.0,
        "wall_seconds": 1.0,
        "oracle": False,
        "follows": None,
        "client_cpu_seconds": 5.0,
        "server_cpu_seconds": 6.0,
        "client_flops": 1.0,
        "server_flops": 0.0,
        "final_accuracy": 0.5,
    }
    write_runs(tmp_path / "trials.parquet", [row])
    (read,) = read_runs(tmp_path / "trials.parquet").to_pylist()
    assert read == dict.fromkeys(RUNS.names) | row


def test_a_damaged_table_of_runs_is_said_to_be_damaged(tmp_path) -> None:
    path = tmp_path / "trials.parquet"
    path.write_bytes(b"PAR1 but no more")
    with pytest.raises(UserError, match="damaged") as caught:
        read_runs(path)
    assert caught.value.exit_code == ExitCode.CORRUPT
    pq.write_table(pa.table({"run_id": ["a"]}), path)
    with pytest.raises(UserError, match="not those of a table of runs"):
        read_runs(path)


@given(st.lists(st.floats(0, 1), max_size=30), st.integers(1, 12))
def test_moving_average_equals_the_slow_form(values, window):
    slow = [
        np.mean(values[i - window + 1 : i + 1]) if i >= window - 1 else np.nan for i in range(len(values))
    ]
    np.testing.assert_allclose(moving_average(values, window), slow, atol=1e-12)


def evaluations_of(accuracies, step=10**9):
    fixed = dict.fromkeys(("test_loss", "validation_accuracy", "validation_loss"), 0.0)
    return table_from_rows(
        EVALUATIONS,
        [
            {"arrivals": n, "version": n, "virtual_time": n * step, "test_accuracy": a} | fixed
            for n, a in enumerate(accuracies)
        ],
    )


def test_summary_of_a_line():
    result = summary(
        evaluations_of(np.arange(21) / 20), target_accuracy=0.5, end_time_ns=20 * 10**9, window=10
    )
    assert result["final_accuracy"] == pytest.approx(0.775)
    assert result["best_accuracy"] == 1.0
    assert result["auc"] == pytest.approx(0.5)
    assert (
        result["time_to_target"] == 15.0
    )  # first window with mean >= 0.5 is 6..15: (0.30 + 0.75) / 2 = 0.525


def test_summary_of_a_constant_reaches_its_own_value_at_the_tenth_evaluation():
    result = summary(evaluations_of([0.6] * 12), target_accuracy=0.6, end_time_ns=12 * 10**9, window=10)
    assert result["time_to_target"] == 9.0
    assert result["auc"] == pytest.approx(0.6)
    assert (
        summary(evaluations_of([0.9] * 9), target_accuracy=0.1, end_time_ns=10**10, window=10)[
            "time_to_target"
        ]
        is None
    )


def test_summary_holds_the_last_accuracy_until_the_end():
    result = summary(evaluations_of([0.0, 1.0]), target_accuracy=None, end_time_ns=3 * 10**9, window=10)
    assert result["auc"] == pytest.approx((0.5 + 2.0) / 3)


def test_summary_of_one_and_of_no_evaluation():
    assert summary(evaluations_of([0.4]), target_accuracy=None, end_time_ns=0, window=10)["auc"] == 0.4
    assert set(summary(evaluations_of([]), target_accuracy=0.5, end_time_ns=0, window=10).values()) == {None}

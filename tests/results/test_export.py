"""A table written as it comes: in full groups, in order, and only if all of it came."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedrevive.results.export import write_export
from fedrevive.results.tables import ROWS_PER_GROUP
from fedrevive.settings.errors import UserError


def test_rows_are_grouped_and_keep_their_order(tmp_path):
    schema = pa.schema([pa.field("n", pa.int64())])
    tables = (pa.table({"n": range(first, first + 1000)}, schema=schema) for first in range(0, 140_000, 1000))
    assert write_export(tmp_path / "x", schema, tables, as_csv=False) == 140_000
    metadata = pq.ParquetFile(tmp_path / "x").metadata
    groups = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
    assert groups == [ROWS_PER_GROUP, ROWS_PER_GROUP, 140_000 - 2 * ROWS_PER_GROUP]
    assert pq.read_table(tmp_path / "x").column("n").to_pylist() == list(range(140_000))


def test_a_failure_half_way_leaves_the_old_file(tmp_path):
    schema = pa.schema([pa.field("n", pa.int64())])

    def breaking() -> Iterator[pa.Table]:
        yield pa.table({"n": range(ROWS_PER_GROUP)}, schema=schema)
        raise UserError("damaged", exit_code=3)

    (tmp_path / "x").write_text("old")
    with pytest.raises(UserError, match="damaged"):
        write_export(tmp_path / "x", schema, breaking(), as_csv=False)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x", "old")]

"""Reading Parquet without threads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def read_parquet(source: Path | pa.Buffer, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of a file or its content, page checksums verified; `columns` (default all) in their given order.

    Raises:
        pa.ArrowException, OSError: no such file, no Parquet file or a damaged page.
        KeyError: a column is missing.
    """
    # Not pq.read_table: it starts threads, and a process that exits while they start is aborted (seen: 1 in 60).
    opened = pa.BufferReader(source) if isinstance(source, pa.Buffer) else source
    with pq.ParquetFile(opened, page_checksum_verification=True) as file:
        rows = file.read(None if columns is None else list(columns), use_threads=False)
    return rows if columns is None else rows.select(list(columns))

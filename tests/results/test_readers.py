"""Programs that know nothing of us read a run's folder, and a reader runs beside the writer."""

from __future__ import annotations

import subprocess
import sys

import pyarrow.dataset as ds
import pytest

from fedrevive.results import RunStore, read_table
from fedrevive.results.schemas import ARRIVALS

ROWS = 6


@pytest.fixture(params=["running", "finished"])
def folder(request, tmp_path, writer):
    directory = tmp_path / "run"
    with RunStore.open(directory, manifest=writer.MANIFEST) as store:
        for done in range(ROWS):
            store.append("arrivals", [writer.arrival(done)])
            if done % 2:
                store.commit(writer.snapshot(done + 1))
        store.append("arrivals", [writer.arrival(ROWS)])  # never committed in a run that is still going
        if request.param == "finished":
            store._rows["arrivals"].clear()
            store.finish(writer.server_tensors(ROWS), {})
        yield directory


def test_pandas_reads_the_folder(folder):
    import pandas as pd

    frame = pd.read_parquet(folder / "arrivals")
    assert sorted(frame["sequence"]) == list(range(ROWS))
    assert frame["beta"].isna().all()


def test_polars_reads_the_folder(folder):
    polars = pytest.importorskip("polars")
    assert polars.read_parquet(folder / "arrivals").height == ROWS


def test_duckdb_reads_the_folder(folder):
    duckdb = pytest.importorskip("duckdb")
    query = f"select count(*), max(staleness) from '{folder}/arrivals/*.parquet'"
    assert duckdb.sql(query).fetchall() == [(ROWS, ROWS - 1)]


def test_our_reader_sees_commits_only(folder):
    assert read_table(folder, "arrivals").num_rows == ROWS
    assert read_table(folder, "events").num_rows == 0


def test_a_reader_beside_the_writer_always_sees_whole_commits(tmp_path, writer, writer_script):
    directory = tmp_path / "run"
    RunStore.open(directory, manifest=writer.MANIFEST).close()
    process = subprocess.Popen([sys.executable, writer_script, "run", str(directory), "60"])
    previous, reads = 0, 0
    while process.poll() is None:
        sequences = read_table(directory, "arrivals")["sequence"].to_pylist()
        assert sequences == list(range(len(sequences)))
        assert len(sequences) >= previous
        assert len(sequences) % 2 == 0
        previous, reads = len(sequences), reads + 1
    assert process.returncode == 0
    assert reads > 10
    assert read_table(directory, "arrivals").num_rows == 60


def test_any_parquet_reader_beside_the_writer_never_meets_a_row_twice(tmp_path, writer, writer_script):
    """While parts are replaced by one file at the end, rows may be missing for a moment, but none is there twice."""
    directory = tmp_path / "run"
    RunStore.open(directory, manifest=writer.MANIFEST).close()
    process = subprocess.Popen([sys.executable, writer_script, "run", str(directory), "60"])
    reads = 0
    while process.poll() is None:
        try:
            rows = ds.dataset(directory / "arrivals", schema=ARRIVALS).to_table(columns=["sequence"])
        except FileNotFoundError:  # listed just before it was replaced
            continue
        sequences = rows.column("sequence").to_pylist()
        assert len(set(sequences)) == len(sequences)
        assert set(sequences) <= set(range(60))
        reads += 1
    assert process.returncode == 0
    assert reads > 10

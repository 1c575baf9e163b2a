"""The command itself, at its tiny sizes."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fedrevive.benchmark.sizes import QUICK
from fedrevive.benchmark.workloads import WORKLOADS
from fedrevive.results.schemas import BENCHMARK


def bench(cwd: Path, *words: str, timeout: float = 280) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fedrevive", "bench", "--quick", *words],
        cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


def rows_of(done: subprocess.CompletedProcess[str]) -> dict[tuple[str, str], dict]:
    assert done.returncode == 0, done.stderr
    return {(row["workload"], row["metric"]): row for row in json.loads(done.stdout.splitlines()[-1])["rows"]}


def test_inline_workloads_print_and_write_the_same_rows_and_repeat_their_results(tmp_path):
    done = bench(tmp_path, "B2i", "resume", "--json", "--output", "bench.parquet")
    found = rows_of(done)
    table = pq.read_table(tmp_path / "bench.parquet")
    assert table.schema.equals(BENCHMARK)
    assert {(row["workload"], row["metric"]): row for row in table.to_pylist()} == found
    efficiency = found["sim-inline", "efficiency"]
    assert efficiency["code"] == "B2i"
    assert efficiency["ratio"] == pytest.approx(efficiency["reference"] / efficiency["ours"])
    assert efficiency["repetitions"] == QUICK.repetitions
    assert 0 < found["sim-inline", "workers_busy"]["ours"] <= 1
    assert found["sim-inline", "critical_path"]["ours"] > 0
    again = rows_of(bench(tmp_path, "sim-inline", "--json"))
    assert again["sim-inline", "efficiency"]["checksum"] == efficiency["checksum"]
    assert done.stderr.splitlines()[0].split(", ")[1].endswith("CPUs")


def test_a_folder_is_no_file(tmp_path):
    done = bench(tmp_path, "events", "--output", ".")
    assert (done.returncode, done.stderr) == (
        2,
        "error: --output: '.' is a folder; name a file such as bench.parquet\n",
    )


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_every_workload_runs(tmp_path):
    done = bench(tmp_path, "--json", timeout=850)
    found = rows_of(done)
    left_out = {line.split(" ")[0] for line in done.stderr.splitlines() if "left out" in line}
    assert {workload for workload, _ in found} == {workload.name for workload in WORKLOADS} - left_out
    for workload, metric in found:
        assert (metric != "efficiency") or found[workload, metric]["ratio"], workload
    assert found["determinism", "distinct_results"]["ours"] == 1
    assert len(list((tmp_path / "results").glob("bench-*.parquet"))) == 1

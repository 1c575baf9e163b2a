"""A run killed at any moment keeps every commit, shows no uncommitted row and ends in the same tables."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.dataset as ds
import pytest

from fedrevive.results import RunStore, read_table
from fedrevive.results.files import is_temporary

KILLS = 20
LAST = 2_000


def newest_number(directory):
    return max((int(path.stem) for path in (directory / "snapshots").glob("[0-9]*.json")), default=0)


def test_random_kills_keep_a_consistent_prefix(tmp_path, writer, writer_script):
    moments = random.Random(0)
    directory = tmp_path / "run"
    seen = 0
    for _ in range(KILLS):
        process = subprocess.Popen([sys.executable, writer_script, "run", str(directory), str(LAST)])
        while (
            not (directory / "LOCK").exists() or f"pid {process.pid} " not in (directory / "LOCK").read_text()
        ):
            time.sleep(0.002)
        commits = moments.randint(0, 3)
        while not newest_number(directory) >= seen // 2 + commits:
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        visible = ds.dataset(directory / "arrivals").count_rows() if (directory / "arrivals").exists() else 0
        with RunStore.open(directory, manifest=writer.MANIFEST) as store:
            latest = store.latest()
            committed = latest.arrivals if latest else 0
            assert visible <= committed
            assert committed >= seen
            assert read_table(directory, "arrivals")["sequence"].to_pylist() == list(range(committed))
            if latest:
                expected = writer.snapshot(committed)
                np.testing.assert_equal(latest.tensors, expected.tensors)
                np.testing.assert_equal(latest.base_models, expected.base_models)
                assert latest.state == expected.state
        assert not [path for path in directory.rglob("*") if is_temporary(path.name)]
        seen = committed
    assert 0 < seen < LAST
    last = seen + 4
    writer.write(directory, last)
    writer.write(tmp_path / "uninterrupted", last)
    assert writer.hashes(directory) == writer.hashes(tmp_path / "uninterrupted")


@pytest.mark.slow
def test_death_before_every_change_of_a_file_ends_in_the_same_result(tmp_path, writer_script):
    done = subprocess.run(
        [sys.executable, writer_script, "points", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 60

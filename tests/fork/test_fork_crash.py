"""Killed anywhere while it is made, a fork is made again; a run that never got its fork is the run from zero."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedrevive.cli.execution import manifest
from fedrevive.fork import fork_run
from fedrevive.results import RunStore

WRITER = Path(__file__).with_name("fork_writer.py")


def test_death_before_every_change_of_a_file_ends_in_the_same_folder(runs, tmp_path) -> None:
    prefix = runs.prefix(runs.trial(), tmp_path / "prefix", 12, 8)
    changes = runs.words("algorithm.teacher_capacity=3", "algorithm.pool=noise")
    (tmp_path / "points").mkdir()
    done = subprocess.run(
        [sys.executable, WRITER, prefix, tmp_path / "points", *changes],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30


@pytest.mark.parametrize("failing", ["snapshots", "blobs", "arrivals"])
def test_an_error_in_the_middle_frees_the_folder_and_the_next_call_forks(
    failing, runs, tmp_path, monkeypatch
) -> None:
    config = runs.trial("algorithm.distill_lr=0.01")
    prefix = runs.prefix(runs.trial(), tmp_path / "prefix", 17)
    folder = tmp_path / "fork"
    rename = os.replace

    def full_disk(source, target):
        if Path(target).parent == folder / failing:
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(Exception, match="No space left on device"):
        fork_run(prefix, folder, manifest(config))
    monkeypatch.undo()
    zero = runs.finish(config, RunStore.open(tmp_path / "zero", manifest=manifest(config)))
    with fork_run(prefix, folder, manifest(config)) as store:
        assert store.latest().arrivals == 17
    assert runs.finish(config, RunStore.attach(folder)) == zero

"""Who may read what we write: results only their user, whatever the umask; exports whoever the user lets."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fedrevive.cli.app import run_app
from fedrevive.results.files import commit_file
from fedrevive.results.snapshots import Snapshot
from fedrevive.results.store import RunStore

SMALL = ["task.clients=24", "server.concurrency=6", "client.local_steps=1", "stop.arrivals=6", "model.width=4",
         "evaluation.every_arrivals=3"]  # fmt: skip
SEARCH = """
experiment: digits
search:
  searcher: grid
  seeds: [0]
  space: {server.lr: {grid: [0.1]}}
overrides:
"""
OPEN, GROUP, CLOSED = 0o000, 0o027, 0o077


def modes(folder: Path) -> dict[str, int]:
    """Path within `folder`, itself included -> permissions."""
    paths = [folder, *folder.rglob("*")]
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in paths}


def assert_private(folder: Path) -> None:
    found = modes(folder)
    files = {name for name in found if (folder / name).is_file()}
    assert files
    wrong = {name: oct(mode) for name, mode in found.items() if mode != (0o600 if name in files else 0o700)}
    assert wrong == {}


@pytest.fixture(params=[OPEN, GROUP, CLOSED], ids=oct)
def umask(request) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(OPEN)
    yield
    os.umask(before)


def test_a_finished_run_is_private(tmp_path, monkeypatch, umask):
    monkeypatch.chdir(tmp_path)
    assert run_app(["run", "digits", *SMALL, "--executor", "inline", "output=runs/one"]) == 0
    assert_private(tmp_path / "runs" / "one")
    assert modes(tmp_path)["runs"] == 0o777 & ~umask  # not ours


def test_snapshots_are_private(tmp_path, open_umask):
    models = {"teacher": np.ones(3, np.float32)}
    with RunStore.open(tmp_path / "new", manifest={"run_id": "0", "config": {}}) as store:
        store.commit(Snapshot(1, 1, {}, models, {0: np.zeros(3, np.float32)}))
        assert list((tmp_path / "new" / "blobs").iterdir())
        assert list((tmp_path / "new" / "snapshots").iterdir())
        assert_private(tmp_path / "new")


def test_files_are_private_in_a_folder_the_user_made(tmp_path, open_umask):
    (tmp_path / "mine").mkdir()
    commit_file(tmp_path / "mine" / "model.safetensors", b"weights")
    assert modes(tmp_path)["mine/model.safetensors"] == 0o600
    assert modes(tmp_path)["mine"] == 0o777


def test_a_comparison_with_its_pictures_and_exports_from_it(tmp_path, monkeypatch, open_umask):
    monkeypatch.chdir(tmp_path)
    words = ["compare", "digits", *SMALL, "--executor", "inline", "--algorithms", "fedbuff,fedasync"]
    assert run_app([*words, "--output", "out"]) == 0
    assert list((tmp_path / "out").glob("*.png"))
    assert_private(tmp_path / "out")
    for mask, table in ((OPEN, "comparison"), (GROUP, "arrivals"), (CLOSED, "evaluations")):
        os.umask(mask)
        assert run_app(["export", "out", "--table", table, "-o", f"{table}.parquet"]) == 0
        assert modes(tmp_path)[f"{table}.parquet"] == 0o666 & ~mask


def test_a_plan_s_picture(tmp_path, monkeypatch, open_umask):
    monkeypatch.chdir(tmp_path)
    assert run_app(["plan", "digits", *SMALL, "output=planned"]) == 0
    assert_private(tmp_path / "planned")


@pytest.mark.ray
@pytest.mark.slow
def test_a_search(tmp_path, monkeypatch, open_umask):
    monkeypatch.chdir(tmp_path)
    overrides = "".join(f"  {word.replace('=', ': ')}\n" for word in [*SMALL, "compute.executor=inline"])
    (tmp_path / "search.yaml").write_text(SEARCH + overrides)
    assert run_app(["tune", "search.yaml", "--output", "out"]) == 0
    assert (tmp_path / "out" / "trials.parquet").exists()
    assert_private(tmp_path / "out")

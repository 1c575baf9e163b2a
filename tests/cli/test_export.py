"""`fedrevive export` on real folders: whole, unfinished and killed ones; and what it refuses."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fedrevive.assemble import client_trainer, server
from fedrevive.cli.app import run_app
from fedrevive.core.process import configure_process
from fedrevive.experiment import run_experiment
from fedrevive.results import RunStore, read_table
from fedrevive.results.manifest import read_manifest, write_manifest
from fedrevive.results.schemas import ARRIVALS, EVENTS
from fedrevive.results.tables import table_hash
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.identity import run_id
from fedrevive.simulation.executor import InlineExecutor
from fedrevive.tasks import load_task
from fedrevive_tuning.definition import read_search
from fedrevive_tuning.folder import SearchFolder
from fedrevive_tuning.plan import Plan, new_manifest
from fedrevive_tuning.sampling import planned_points
from fedrevive_tuning.table import trials_table
from fedrevive_tuning.validation import check_search

SMALL = ["task.clients=24", "server.concurrency=6", "client.local_steps=1", "evaluation.every_arrivals=5",
         "--executor", "inline"]  # fmt: skip
KEYS = ["label", "configuration", "seed", "run_id"]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "fedrevive", *words]


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> Path:
    """A finished comparison: two algorithms, two seeds, 20 arrivals."""
    folder = tmp_path_factory.mktemp("compared")
    words = [
        "compare",
        "digits",
        *SMALL,
        "stop.arrivals=20",
        "faults.label_flip.jobs=0.2",
        "--seeds",
        "1,0",
        "--algorithms",
        "fedbuff,fedasync",
    ]
    done = subprocess.run(
        command(*words, "--output", "out"),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "out"


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """A run that SIGKILL ended between two of its snapshots."""
    folder = tmp_path_factory.mktemp("killed") / "out"
    words = ["run", "digits", *SMALL, "stop.arrivals=100000", "snapshots.every_arrivals=5"]
    process = subprocess.Popen(
        command(*words, "--output", str(folder)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 90
        while len(list((folder / "snapshots").glob("*.json"))) < 2:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return folder


SEARCH = """
experiment: digits
overrides:
  task.clients: 24
  server.concurrency: 6
  client.local_steps: 1
  stop.arrivals: 20
  evaluation.every_arrivals: 5
  algorithm.freeze_versions: 100  # nothing is distilled
  algorithm.warmup_versions: 100
  faults.label_flip.jobs: 0.2
search:
  searcher: grid
  seeds: [1, 0]
  objective: auc
  space:
    algorithm.teacher_capacity: {grid: [2, 4, 8]}
"""


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> Path:
    """A search of three trials that ended early: one is complete, one was at work on its first seed, one not begun."""
    path = tmp_path_factory.mktemp("searched")
    (path / "search.yaml").write_text(SEARCH)
    search = read_search(str(path / "search.yaml"))
    points, columns = planned_points(search), check_search(search)
    manifest = new_manifest(search, columns=columns, points=points, concurrent=1, horizon=None, details={})
    configure_process()
    folder = SearchFolder(path / "out")
    with folder.claimed(manifest):
        plan = Plan(folder)
        for number, stops in ((0, (20, 20)), (1, (7,))):
            record = plan.begun(number)
            for config, identity, stop in zip(
                plan.configs(record.values), record.run_ids, stops, strict=False
            ):
                simulate_until(stop, config, folder.run(identity))
        folder.update(0, "complete")
    return folder.directory


def simulate_until(arrivals: int, config: ExperimentConfig, folder: Path) -> None:
    data = load_task(config.task, config.seed)
    manifest = {
        "kind": "run",
        "run_id": run_id(config),
        "config": config.model_dump(mode="json"),
        "seed": config.seed,
    }
    with RunStore.open(folder, manifest=manifest) as store:
        executor = InlineExecutor(server(config, data), client_trainer(config, data))
        asked = count()  # about once per arrival
        list(
            run_experiment(
                config, store, executor, interrupted=lambda: arrivals < 20 and next(asked) >= arrivals
            )
        )


def exported(capsys: pytest.CaptureFixture[str], folder: Path, path: Path, *words: str) -> pa.Table:
    assert run_app(["export", str(folder), "-o", str(path), *words]) == 0, capsys.readouterr().err
    assert "rows\n" in capsys.readouterr().out
    return pq.read_table(path)


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    code = run_app(["export", *map(str, words)])
    error = capsys.readouterr().err
    assert code == 2, error
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    return error


def test_arrivals_of_a_comparison_are_its_runs_tables_one_after_the_other(compared, tmp_path, capsys):
    table = exported(capsys, compared, tmp_path / "all.parquet", "--table", "arrivals")
    assert table.column_names == [*KEYS, *ARRIVALS.names]
    assert table.num_rows == 4 * 20
    assert all(field.metadata[b"description"] for field in table.schema)
    entries = read_manifest(compared)["entries"]
    assert table.column("label").to_pylist()[::20] == ["fedbuff", "fedbuff", "fedasync", "fedasync"]
    assert table.column("seed").to_pylist()[::20] == [1, 0, 1, 0]
    for entry in entries:
        rows = table.filter(pc.equal(table.column("run_id"), entry["run_id"])).select(ARRIVALS.names)
        assert rows.equals(read_table(compared / "runs" / entry["run_id"], "arrivals"))


def test_events_of_a_comparison_a_search_and_a_run(compared, searched, tmp_path, capsys):
    table = exported(capsys, compared, tmp_path / "a.parquet", "--table", "events")
    assert table.column_names == [*KEYS, *EVENTS.names]
    for entry in read_manifest(compared)["entries"]:
        rows = table.filter(pc.equal(table.column("run_id"), entry["run_id"])).select(EVENTS.names)
        assert rows.equals(read_table(compared / "runs" / entry["run_id"], "events"))
        assert set(rows.column("kind").to_pylist()) == {"label_flip"}
    found = exported(capsys, searched, tmp_path / "b.parquet", "--table", "events")
    assert found.column_names == ["trial", "seed", "run_id", *EVENTS.names]
    assert sorted(set(found.column("trial").to_pylist())) == [0, 1]
    run = compared / "runs" / table.column("run_id")[0].as_py()
    own = exported(capsys, run, tmp_path / "c.parquet", "--table", "events")
    assert own.column_names == ["label", "seed", "run_id", *EVENTS.names]
    assert own.select(EVENTS.names).equals(read_table(run, "events"))


def test_default_table_of_each_kind(compared, searched, tmp_path, capsys):
    comparison = exported(capsys, compared, tmp_path / "a.parquet")
    assert table_hash(comparison) == table_hash(pq.read_table(compared / "comparison.parquet"))
    trials = exported(capsys, searched, tmp_path / "b.parquet")
    assert table_hash(trials) == table_hash(trials_table(searched))
    assert trials.column("algorithm.teacher_capacity").to_pylist() == [2, 2, 4, 4]
    assert trials.column("status").to_pylist() == ["complete", "complete", "running", "running"]
    run = compared / "runs" / comparison.column("run_id")[0].as_py()
    evaluations = exported(capsys, run, tmp_path / "c.parquet")
    assert evaluations.column_names[:3] == ["label", "seed", "run_id"]
    assert evaluations.select(evaluations.column_names[3:]).equals(read_table(run, "evaluations"))


def test_an_unfinished_search_is_in_order_of_trial_and_seed(searched, tmp_path, capsys):
    table = exported(capsys, searched, tmp_path / "all.parquet", "--table", "arrivals")
    assert table.column_names == ["trial", "seed", "run_id", *ARRIVALS.names]
    rows = list(zip(*(table.column(name).to_pylist() for name in ("trial", "seed", "sequence")), strict=True))
    assert rows[:40] == [(0, seed, n) for seed in (0, 1) for n in range(20)]
    assert rows[40:] == [(1, 1, n) for n in range(len(rows) - 40)]
    assert 7 <= len(rows) - 40 < 20


def test_a_killed_run_gives_its_committed_rows(killed, tmp_path, capsys):
    table = exported(capsys, killed, tmp_path / "all.parquet", "--table", "arrivals")
    assert table.num_rows >= 10
    assert table.num_rows % 5 == 0
    assert table.column("sequence").to_pylist() == list(range(table.num_rows))
    assert table.column("label").unique().to_pylist() == ["fedrevive"]


def test_an_unfinished_comparison_gives_what_it_has(compared, tmp_path, capsys):
    folder = tmp_path / "unfinished"
    folder.mkdir()
    entries = read_manifest(compared)["entries"]
    write_manifest(folder, {"kind": "comparison", "entries": entries})
    nothing = exported(capsys, folder, tmp_path / "none.parquet", "--table", "arrivals")
    assert (nothing.num_rows, nothing.column_names) == (0, [*KEYS, *ARRIVALS.names])
    (folder / "runs").mkdir()
    (folder / "runs" / entries[2]["run_id"]).symlink_to(compared / "runs" / entries[2]["run_id"])
    table = exported(capsys, folder, tmp_path / "one.parquet", "--table", "arrivals")
    assert table.column("run_id").unique().to_pylist() == [entries[2]["run_id"]]
    assert "fedrevive resume" in refused(capsys, folder, "-o", tmp_path / "x.parquet")


def test_csv_holds_the_same(compared, tmp_path, capsys):
    path = tmp_path / "all.csv"
    assert run_app(["export", str(compared), "-o", str(path), "--table", "arrivals", "--csv"]) == 0
    expected = exported(capsys, compared, tmp_path / "all.parquet", "--table", "arrivals").to_pandas()
    read = pd.read_csv(path, dtype={"run_id": str, "configuration": str})
    read["configuration"] = read["configuration"].fillna("")
    pd.testing.assert_frame_equal(read, expected, check_dtype=False)


def test_neither_torch_nor_ray_is_imported(compared, searched, tmp_path):
    program = (
        "import sys; from fedrevive.cli.app import run_app; codes = [run_app(line.split()) for line in sys.argv[1:]]; "
        "print([*map(int, codes)], sorted({'torch', 'ray'} & sys.modules.keys()))"
    )
    lines = [f"export {compared} -o {tmp_path}/x", f"export {searched} -o {tmp_path}/y --table arrivals"]
    done = subprocess.run(
        [sys.executable, "-c", program, *lines], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[0, 0] []"


def test_an_old_file_is_replaced_through_a_link_and_others_may_read_it(compared, tmp_path, capsys):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x").write_text("old")
    (tmp_path / "x").symlink_to(tmp_path / "real" / "x")
    before = os.umask(0o022)
    try:
        exported(capsys, compared, tmp_path / "x")
    finally:
        os.umask(before)
    assert (tmp_path / "x").is_symlink()
    assert stat.S_IMODE((tmp_path / "real" / "x").stat().st_mode) == 0o644
    assert os.listdir(tmp_path / "real") == ["x"]


def test_what_is_refused_is_one_line(compared, tmp_path, capsys):
    good = tmp_path / "x"
    assert "not a run folder" in refused(capsys, tmp_path, "-o", good)
    assert "not a run folder" in refused(capsys, tmp_path / "nowhere", "-o", good)
    assert "arrivals" in refused(capsys, compared, "-o", good, "--table", "timing")
    assert "a comparison has no table 'trials'" in refused(capsys, compared, "-o", good, "--table", "trials")
    run = next((compared / "runs").iterdir())
    assert "a run has no table 'comparison'" in refused(capsys, run, "-o", good, "--table", "comparison")
    assert "is a folder" in refused(capsys, compared, "-o", tmp_path)
    assert "no ordinary file" in refused(capsys, compared, "-o", os.devnull)
    assert "does not exist" in refused(capsys, compared, "-o", tmp_path / "absent" / "x")
    assert "inside" in refused(capsys, compared, "-o", compared / "manifest.json")
    assert "--csv" in refused(capsys, compared, "-o", tmp_path / "x.csv")
    assert "--csv" in refused(capsys, compared, "-o", tmp_path / "x.parquet", "--csv")
    assert "-o" in refused(capsys, compared)
    write_manifest(tmp_path, {"kind": "prefix"})
    assert "holds a prefix" in refused(capsys, tmp_path, "-o", good)
    assert not good.exists()

"""The commands as a user types them: real processes, real signals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fedrevive.results import read_table

SMALL = ["task.clients=24", "server.concurrency=6", "client.local_steps=4", "evaluation.every_arrivals=10",
         "algorithm.warmup_versions=8", "algorithm.generate_every_versions=4"]  # fmt: skip
INLINE = ["--executor", "inline"]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "fedrevive", *words]


def fedrevive(*words: str, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
    )


def last_json(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def run(cwd: Path, *words: str) -> dict:
    return last_json(fedrevive("run", "digits", *SMALL, "--json", *words, cwd=cwd))


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> dict:
    """The uninterrupted inline run of 60 arrivals."""
    folder = tmp_path_factory.mktemp("reference")
    outcome = run(folder, *INLINE, "stop.arrivals=60", "--output", "out")
    return {**outcome, "folder": folder / "out"}


def started(cwd: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("run", "digits", *SMALL, "stop.arrivals=60", "snapshots.every_arrivals=5", *words, "--output", "out"),
        cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip


def wait_for_snapshots(folder: Path, number: int) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if len(list((folder / "snapshots").glob("*.json"))) >= min(number, 2) and any(
            int(path.stem) >= number for path in (folder / "snapshots").glob("*.json")
        ):
            return
        time.sleep(0.02)
    raise AssertionError(f"no snapshot {number} in {folder}")


def test_run_reports_the_documented_keys_and_writes_readable_parquet(reference):
    documented = "dir arrivals versions virtual_time final_accuracy best_accuracy auc time_to_target hashes utilisation"
    assert set(documented.split()) <= set(reference)
    assert reference["arrivals"] == reference["versions"] == 60
    assert 0 < reference["utilisation"]["workers"] < 1
    assert 0 < reference["utilisation"]["server"] < 1
    table = pq.read_table(reference["folder"] / "arrivals")
    assert table.column("sequence").to_pylist() == list(range(60))
    assert all(field.metadata[b"unit"] for field in read_table(reference["folder"], "arrivals").schema)
    distilled = [row for row in table.to_pylist() if row["distilled_delta_norm"]]
    assert distilled
    assert all(0 < row["beta"] <= 1 and row["distill_loss"] >= 0 for row in distilled)
    assert {row["kind"] for row in read_table(reference["folder"], "timings").to_pylist()} == {
        "train",
        "apply",
        "evaluate",
    }


@pytest.mark.ray
@pytest.mark.parametrize("workers", ["1", "2"])
def test_ray_gives_the_inline_hashes(reference, workers, tmp_path):
    if workers == "2" and len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one CPU")
    assert run(tmp_path, "stop.arrivals=60", "--workers", workers)["hashes"] == reference["hashes"]


@pytest.mark.parametrize("executor", ["inline", pytest.param("ray", marks=pytest.mark.ray)])
def test_killed_and_resumed_equals_uninterrupted(reference, executor, tmp_path):
    process = started(tmp_path, "--executor", executor)
    wait_for_snapshots(tmp_path / "out", 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    other = "ray" if executor == "inline" else "inline"
    resumed = last_json(fedrevive("resume", "out", "--executor", other, "--json", cwd=tmp_path))
    assert resumed["hashes"] == reference["hashes"]
    again = fedrevive("resume", "out", "--json", cwd=tmp_path)
    assert last_json(again)["hashes"] == reference["hashes"]
    assert "already complete" in again.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("executor", ["inline", pytest.param("ray", marks=pytest.mark.ray)])
def test_signals_end_with_a_snapshot(reference, number, code, executor, tmp_path):
    """To the whole group, as a terminal, `timeout` and job queues send it."""
    process = started(tmp_path, "--executor", executor)
    wait_for_snapshots(tmp_path / "out", 1)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "fedrevive resume out" in errors
    assert (
        last_json(fedrevive("resume", "out", "--json", *INLINE, cwd=tmp_path))["hashes"]
        == reference["hashes"]
    )


def test_resume_works_from_the_moment_the_manifest_is_there(reference, tmp_path):
    process = started(tmp_path, *INLINE)
    while not (tmp_path / "out" / "manifest.json").exists():
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert last_json(fedrevive("resume", "out", "--json", cwd=tmp_path))["hashes"] == reference["hashes"]


def test_the_manifest_is_written_before_torch_is_imported(tmp_path):
    program = (
        "import sys; from pathlib import Path; from fedrevive.cli.execution import open_run; "
        "from fedrevive.settings.loading import load; store = open_run(load('digits'), Path('out')); "
        "print(sorted({'torch', 'ray', 'sklearn', 'pandas'} & set(sys.modules)), store.manifest['run_id'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("[] ")
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"manifest.json", "LOCK"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "digits", "--workers", "4096"], "compute.workers"),
        (["run", "fashion_mnist", "task.data_dir=nowhere"], "task.data_dir"),
        (["compare", "fashion_mnist", "task.data_dir=nowhere"], "task.data_dir"),
        (
            ["run", "cifar10", "task.data_dir=nowhere"],
            "task.data_dir: 'nowhere' lacks data_batch_1 of CIFAR-10",
        ),
        (["tune", "cifar10", "--seeds", "0"], "task.data_dir: 'data' lacks data_batch_1 of CIFAR-10"),
        (["compare", "digits", "--algorithms", "fedbuff,fedbuf"], "did you mean 'fedbuff'"),
        (["compare", "digits", "--algorithms", "fedbuff,fedbuff"], "the same run"),
        (["compare", "digits", "--seeds", "0,0"], "--seeds"),
        (["compare", "digits", "--seeds", "a"], "--seeds"),
        (["compare", "digits", "seed=4"], "--seeds"),
        (["compare", "digits", "algorithm.name=fedavg"], "--algorithms"),
        (["compare", "digits", "--algorithms", "fedbuff:algorithm.name=fedavg"], "its name again"),
        (["compare", "digits", "--algorithms", "fedbuff,fedavg:stop.arrivals=40"], "changes stop"),
        (["compare", "digits", "--algorithms", "fedbuff,fedavg:task.clients=50"], "changes task"),
        (
            ["compare", "digits", "--algorithms", "fedbuff,afl_dw:server.concurrency=5"],
            "changes server.concurrency",
        ),
        (
            ["compare", "digits", "--algorithms", "fedbuff,afl_dw:client.local_steps=5"],
            "changes client.local_steps",
        ),
        (["run", "digits", "--executer", "inline"], "--executor"),
        (["run", "digts"], "did you mean 'digits'"),
        (["run", "digits", "server.concurency=3"], "did you mean 'concurrency'"),
        (["run", "digits", "server.concurrency=many"], "server.concurrency"),
        (["run", "digits", "stop.arrivals=null"], "stop"),
        (["plan", "digits", "stop.arrivals=null", "stop.target_accuracy=0.5"], "stop"),
        (["resume", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(words, expected, tmp_path):
    done = fedrevive(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert expected in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_another_configuration_is_refused(reference):
    folder = reference["folder"]
    before = sorted(path.name for path in folder.rglob("*"))
    done = fedrevive("run", "digits", *SMALL, "stop.arrivals=61", "--output", str(folder), cwd=folder.parent)
    assert done.returncode == 2
    assert "stop.arrivals is 60 there and 61 here" in done.stderr
    assert sorted(path.name for path in folder.rglob("*")) == before


def test_plan_needs_no_training_and_draws(tmp_path):
    done = fedrevive("plan", "cifar10", "stop.virtual_time=20", "--output", "p", "--json", cwd=tmp_path)
    plan = last_json(done)
    assert set(plan) == {
        "arrivals",
        "versions",
        "virtual_time",
        "staleness",
        "beta_mean",
        "parallelism",
        "work",
        "faults",
    }
    assert set(plan["staleness"]) == {"mean", "sd", "q05", "q50", "q95", "q99"}
    assert (tmp_path / "p" / "staleness.png").stat().st_size > 5000


@pytest.mark.ray
def test_compare_interrupted_and_resumed(tmp_path):
    words = ["compare", "digits", *SMALL[:4], "stop.arrivals=40", "--algorithms",
             "fedbuff,fedrevive:warmup_versions=8", "--seeds", "0,1", "--output", "out"]  # fmt: skip
    process = subprocess.Popen(
        command(*words), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while not list((tmp_path / "out").glob("runs/*/manifest.json")):
        time.sleep(0.05)
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    outcome = last_json(fedrevive("resume", "out", "--json", cwd=tmp_path))
    assert [row["label"] for row in outcome["rows"]] == ["fedbuff", "fedrevive:warmup_versions=8"]
    assert all(row["seeds"] == 2 for row in outcome["rows"])
    table = pq.read_table(tmp_path / "out" / "comparison.parquet").to_pandas()
    assert len(table) == 4
    assert (tmp_path / "out" / "accuracy.png").stat().st_size > 5000
    again = [*words, "--json", *INLINE]
    assert last_json(fedrevive(*again, cwd=tmp_path))["rows"] == outcome["rows"]


def test_a_grid_is_selected_on_validation_and_reported_on_every_seed(tmp_path):
    """A step of 1e-5 learns nothing, so the other configuration must be the one that runs on the second seed."""
    words = ["digits", *SMALL[:4], *INLINE, "stop.arrivals=60", "client.local_steps=8", "--seeds", "0,1"]
    grids = "fedbuff:server.lr=1e-5/0.2,fedasync:server.lr=1e-5/0.2"
    outcome = last_json(
        fedrevive("compare", *words, "--algorithms", grids, "--output", "out", "--json", cwd=tmp_path)
    )
    assert [row["configuration"] for row in outcome["rows"]] == ["server.lr=0.2"] * 2
    assert all(row["seeds"] == 2 for row in outcome["rows"])
    table = pq.read_table(tmp_path / "out" / "comparison.parquet").to_pandas()
    assert sorted(zip(table["configuration"], table["seed"], table["selected"], strict=True)) == sorted(
        [("server.lr=1e-5", 0, False), ("server.lr=0.2", 0, True), ("server.lr=0.2", 1, True)] * 2
    )
    for _, group in table[table["seed"] == 0].groupby("label"):
        assert group.loc[group["validation_accuracy"].idxmax(), "selected"]
    uneven = fedrevive("compare", *words, "--algorithms", "fedbuff:server.lr=0.1/0.2,fedasync", cwd=tmp_path)
    assert uneven.returncode == 2
    assert "equal size" in uneven.stderr


@pytest.mark.ray
def test_a_comparison_whose_last_snapshot_is_at_its_end_resumes(tmp_path):
    """No evaluation precedes the final record then."""
    words = [*SMALL[:4], "stop.arrivals=40", "snapshots.every_arrivals=40", "--seeds", "0", "--output", "out"]
    program = (
        "import os; from fedrevive.results.store import RunStore; RunStore.finish = lambda *_: os._exit(9); "
        f"from fedrevive.cli.app import run_app; run_app(['compare', 'digits', '--algorithms', 'fedbuff', *{words!r}])"
    )
    died = subprocess.run(
        [sys.executable, "-c", program, *INLINE], cwd=tmp_path, capture_output=True, check=False
    )
    assert died.returncode == 9
    resumed = fedrevive("resume", "out", "--json", cwd=tmp_path)
    assert last_json(resumed)["rows"][0]["seeds"] == 1
    again = fedrevive("resume", "out", "--json", "--workers", "4000", cwd=tmp_path)
    assert last_json(again)["rows"] == last_json(resumed)["rows"]


def test_a_terminal_without_the_characters_gets_the_table_all_the_same(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        command("plan", "digits"), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "parallelism bound" in done.stdout

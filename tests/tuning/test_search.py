"""Searches as a user starts them: real processes, real Ray, real kills."""

import json
import shutil
import signal
import subprocess
import time

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from fedrevive.results import read_table
from fedrevive.results.fsck import check_folder
from fedrevive_tuning.folder import KIND
from fedrevive_tuning.verification import check_records

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


def test_two_searches_at_once_have_a_ray_each(tiny, pair):
    assert all(pair["heads"])
    assert pair["heads"][0] != pair["heads"][1]
    assert [outcome["trials"] for outcome in pair["outcomes"]] == [4, 3]


def test_the_table_has_typed_conditional_columns(tiny, random):
    table = tiny.table(random)
    assert sorted(zip(*(table[name].to_pylist() for name in ("trial", "seed")), strict=True)) == [
        (trial, seed) for trial in range(4) for seed in (0, 1)
    ]
    kinds = {field.name: field.type for field in table.schema if "." in field.name}
    assert kinds == {
        "server.lr": pa.float64(),
        "algorithm.generate_every_versions": pa.int64(),
        "algorithm.beta.family": pa.string(),
        "algorithm.beta.value": pa.float64(),
        "algorithm.beta.exponent": pa.float64(),
    }
    own = {"constant": "algorithm.beta.value", "polynomial": "algorithm.beta.exponent"}
    for row in table.to_pylist():
        family = row["algorithm.beta.family"]
        assert [name for name in own.values() if row[name] is not None] == [own[family]]
        assert row["status"] == "complete"
        assert row["objective"] == row["validation_accuracy"]
        assert row["arrivals"] == 24
    assert all(b"description" in field.metadata for field in table.schema)


def test_score_is_the_mean_over_seeds(tiny, random):
    rows = tiny.table(random).to_pylist()
    for trial in range(4):
        own = [row for row in rows if row["trial"] == trial]
        assert {row["score"] for row in own} == {sum(row["objective"] for row in own) / 2}


def test_every_trial_of_a_seed_meets_the_same_arrivals(tiny, random):
    columns = ["job", "client", "dispatched_at", "arrives_at", "accepted_at"]
    met = {}
    for row in tiny.table(random).to_pylist():
        met.setdefault(row["seed"], []).append(
            read_table(random / "runs" / row["run_id"], "arrivals").select(columns)
        )
    assert [len(tables) for tables in met.values()] == [4, 4]
    assert all(table.equals(tables[0]) for tables in met.values() for table in tables)
    assert not met[0][0].equals(met[1][0])


def test_the_best_configuration_again_gives_the_same_hashes(tiny, pair, random):
    best = pair["outcomes"][0]["best"]
    words = best["command"].split()[1:]
    done = subprocess.run(
        tiny.command(*words, "--executor", "inline", "--json"),
        cwd=pair["random"], capture_output=True, text=True, timeout=200, check=True,
    )  # fmt: skip
    again = json.loads(done.stdout.splitlines()[-1])
    manifest = json.loads((random / "runs" / best["run_ids"][0] / "manifest.json").read_text())
    assert again["hashes"] == manifest["hashes"]
    assert again["final_accuracy"] == manifest["summary"]["final_accuracy"]


def test_nothing_but_results_is_left(tiny, random):
    expected = {
        "LOCK",
        "manifest.json",
        "runs",
        "trials",
        "trials.parquet",
        "objective.png",
        "parallel.png",
        "_SUCCESS",
    }
    assert {path.name for path in random.iterdir()} - {"beta.png"} == expected
    rows = ds.dataset(sorted(random.glob("runs/*/evaluations/*.parquet"))).count_rows()
    assert rows == 8 * 7


def test_asha_stops_trials_and_the_table_says_when(tiny, pair):
    rows = tiny.table(pair["asha"] / "out").to_pylist()
    status = {row["trial"]: row["status"] for row in rows}
    assert status == {0: "complete", 1: "stopped", 2: "stopped"}
    end = max(row["virtual_time"] for row in rows if row["trial"] == 0)
    for row in rows:
        if row["status"] == "stopped":
            assert 0.5 <= row["virtual_time"] < end
            assert 0 < row["arrivals"] < 24
            assert row["score"] is not None
    assert pair["outcomes"][1]["best"]["trial"] == 0


def test_a_killed_search_goes_on_to_the_same_table(tiny, pair, random, tmp_path):
    tiny.write(tmp_path, tiny.RANDOM)
    process = tiny.tune(tmp_path)
    out = tmp_path / "out"
    while process.poll() is None and not list(out.glob("runs/*/snapshots/*.json")):
        time.sleep(0.05)
    process.kill()
    process.communicate()
    scratch = out / ".tune" / "tune"
    for path in scratch.glob("*.json"):
        path.write_bytes(path.read_bytes()[:40])
    assert len(list((out / "trials").glob("*.json"))) in (1, 2)
    report = check_folder(out, {KIND: check_records})
    assert [str(problem) for problem in report.problems] == []
    assert f"{out}: 4 of 4 trials are not done; go on with: fedrevive resume {out}" in report.notes
    outcome = tiny.ended(tiny.begin(tmp_path, "resume", "out", "--json"))
    assert tiny.table(out).equals(tiny.table(random))
    assert outcome["best"] == pair["outcomes"][0]["best"]
    assert not (out / ".tune").exists()


def test_a_trial_that_fails_for_good_is_a_row(tiny, pair, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(pair["asha"], folder)
    broken = json.loads((folder / "out" / "trials" / "00001.json").read_text())
    manifest = folder / "out" / "runs" / broken["run_ids"][0] / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:100])
    (folder / "out" / "trials" / "00001.json").unlink()
    outcome = tiny.ended(tiny.tune(folder, "--resume"))
    assert (outcome["complete"], outcome["stopped"], outcome["failed"]) == (1, 1, 1)
    rows = [row for row in tiny.table(folder / "out").to_pylist() if row["trial"] == 1]
    assert [(row["status"], row["objective"], row["score"]) for row in rows] == [("failed", None, None)] * 2
    assert all("damaged or edited by hand" in row["error"] and "\n" not in row["error"] for row in rows)


def test_a_folder_with_another_search_is_refused(tiny, pair):
    done = subprocess.run(
        tiny.command("tune", "search.yaml", "--output", "out", "--seeds", "5"),
        cwd=pair["random"], capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "holds another search (it differs in search.seeds)" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.5, 1.5, 2.5, 3.5, 5, 8, 12, 20])
def test_a_search_killed_at_any_time_ends_with_the_same_table(tiny, random, tmp_path, delay):
    tiny.write(tmp_path, tiny.RANDOM)
    process = tiny.tune(tmp_path)
    time.sleep(delay)
    process.kill()
    process.communicate()
    tiny.ended(tiny.tune(tmp_path))
    assert tiny.table(tmp_path / "out").equals(tiny.table(random))


@pytest.mark.slow
def test_sigterm_saves_every_trial_and_says_how_to_go_on(tiny, random, tmp_path):
    tiny.write(tmp_path, tiny.RANDOM)
    process = tiny.tune(tmp_path)
    while process.poll() is None and not list(tmp_path.glob("out/runs/*/snapshots/*.json")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 143
    assert "go on with: fedrevive resume out" in err
    tiny.ended(tiny.begin(tmp_path, "resume", "out", "--json"))
    assert tiny.table(tmp_path / "out").equals(tiny.table(random))


@pytest.mark.slow
def test_a_killed_trial_process_goes_on_from_its_snapshot(tiny, random, tmp_path):
    tiny.write(tmp_path, tiny.RANDOM)
    process = tiny.tune(tmp_path)
    while process.poll() is None and not list(tmp_path.glob("out/runs/*/snapshots/*.json")):
        time.sleep(0.05)
    for worker in trial_processes(process.pid):
        subprocess.run(["kill", "-9", worker], check=False)
    tiny.ended(process)
    assert tiny.table(tmp_path / "out").equals(tiny.table(random))


def trial_processes(driver: int) -> list[str]:
    """Trial processes that descend from this driver."""
    listed = subprocess.run(["ps", "-eo", "ppid,pid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
    parents = {child: parent for parent, child, _ in rows}

    def descends(pid: str) -> bool:
        while pid in parents and pid != "0":
            pid = parents[pid]
            if pid == str(driver):
                return True
        return False

    return [child for _, child, args in rows if args.startswith("ray::ImplicitFunc") and descends(child)]


@pytest.mark.slow
def test_optuna_asks_the_same_questions_after_a_kill(tiny, tmp_path):
    search = (
        tiny.RANDOM.replace("random", "optuna").replace("trials: 4", "trials: 14").replace("[0, 1]", "[0]")
    )
    tables = []
    for name in ("whole", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        tiny.write(folder, search)
        process = tiny.tune(folder)
        if name == "killed":
            while process.poll() is None and len(list(folder.glob("out/trials/*.json"))) < 12:
                time.sleep(0.05)
            process.kill()
            process.communicate()
            process = tiny.begin(folder, "resume", "out", "--json")
        tiny.ended(process)
        tables.append(tiny.table(folder / "out"))
    assert tables[0].equals(tables[1])


@pytest.mark.slow
def test_a_trial_on_actors_gives_the_same_runs(tiny, random, tmp_path):
    tiny.write(tmp_path, tiny.RANDOM, tiny.FEDREVIVE + ", compute.executor: ray, compute.workers: 1")
    tiny.ended(tiny.tune(tmp_path, "--trials", "1"))
    expected = tiny.table(random).filter(pa.compute.equal(tiny.table(random)["trial"], 0))
    assert tiny.table(tmp_path / "out").equals(expected)

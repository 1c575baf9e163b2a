"""`fedrevive fsck`: what it finds, what it says, and that it leaves everything as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import crash_victim
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from uninterrupted import listing

from fedrevive.results.files import commit_file
from fedrevive.results.finished import order_problem
from fedrevive.results.fsck import check_folder
from fedrevive.results.manifest import read_manifest, write_manifest
from fedrevive.results.schemas import ARRIVALS
from fedrevive.results.store import RunStore

STUDY = """
name: tiny
common: task.clients=6 server.concurrency=3 client.local_steps=1 model.width=4 stop.arrivals=6 compute.executor=inline
settings: {one: digits}
algorithms: [fedbuff, fedasync]
seeds: [0]
"""


@pytest.fixture
def finished(reference, tmp_path) -> Path:
    return Path(shutil.copytree(reference.folder, tmp_path / "out"))


def lines(directory: Path) -> list[str]:
    return [str(problem) for problem in check_folder(directory).problems]


def test_a_finished_run_without_fault(finished):
    report = check_folder(finished)
    assert (report.problems, report.notes, report.runs, report.files) == ([], [], 1, 8)


def test_every_file_that_is_gone_is_named(finished):
    for path in [p for p in finished.rglob("*") if p.is_file() and p.name not in ("LOCK", "_SUCCESS")]:
        content = path.read_bytes()
        path.unlink()
        (line,) = lines(finished)
        assert line.startswith(f"{path}: missing; ")
        path.write_bytes(content)


def test_a_file_that_readers_would_take_for_rows(finished):
    extra = finished / "arrivals" / "copy.parquet"
    shutil.copy(next((finished / "arrivals").iterdir()), extra)
    (line,) = lines(finished)
    assert line.startswith(f"{extra}: is no part of arrivals")


def test_rows_that_were_exchanged_with_all_their_checksums(finished):
    """Somebody wrote other rows and repaired every sha256 but the table's hash."""
    path = next((finished / "arrivals").iterdir())
    rows = pq.read_table(path)
    changed = rows.set_column(
        rows.schema.get_field_index("client"), ARRIVALS.field("client"), pa.array([0] * rows.num_rows)
    )
    pq.write_table(changed, path)
    manifest = read_manifest(finished)
    digest = commit_file(path, path.read_bytes())
    parts = [
        {**part, "sha256": digest} if part["table"] == "arrivals" else part for part in manifest["parts"]
    ]
    write_manifest(finished, {**manifest, "parts": parts})
    (line,) = lines(finished)
    assert "hash in manifest.json" in line


@pytest.mark.parametrize(
    ("table", "keys", "words"),
    [
        ("arrivals", [0, 1, 3], "row 2 has sequence 3, not 2"),
        ("arrivals", [0, 1, 1], "row 2 has sequence 1, not 2"),
        ("evaluations", [0, 6, 3], "not ordered by arrivals"),
    ],
)
def test_order_and_holes(table, keys, words, tmp_path):
    name = "sequence" if table == "arrivals" else "arrivals"
    problem = order_problem(tmp_path, table, pa.table({name: keys}))
    assert problem is not None
    assert words in problem.what
    assert order_problem(tmp_path, table, pa.table({name: [0, 1, 2]})) is None


def test_exit_codes_lines_and_json(finished, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    done = crash_victim.command(["fsck", "out"], tmp_path)
    assert (done.code, done.stdout, done.stderr) == (0, "out: 1 run, 8 files: no problem\n", "")
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before
    (finished / "model.safetensors").unlink()
    done = crash_victim.command(["fsck", "out"], tmp_path)
    assert done.code == 3
    assert done.stdout.splitlines()[0].startswith("out/model.safetensors: missing; take it from a copy")
    assert done.stdout.splitlines()[1:] == ["out: 1 run, 7 files: 1 problem"]
    done = crash_victim.command(["fsck", "out", "--json"], tmp_path)
    (problem,) = json.loads(done.stdout.splitlines()[-1])["problems"]
    assert problem["file"] == "out/model.safetensors"
    assert set(problem) == {"file", "problem", "remedy"}
    for folder in (".", "nowhere"):
        done = crash_victim.command(["fsck", folder], tmp_path)
        assert (done.code, len(done.stderr.splitlines())) == (2, 1)


def test_leftovers_are_notes_and_go_with_the_next_start(finished):
    left = finished / "arrivals" / ".00000009.parquet.1.aa.tmp"
    left.write_bytes(b"half")
    report = check_folder(finished)
    assert report.problems == []
    assert [note.split(":")[0] for note in report.notes] == [str(left)]
    RunStore.attach(finished).close()
    assert not left.exists()


def test_a_study_with_its_comparison_and_runs(fork_server, tmp_path):
    (tmp_path / "tiny.yaml").write_text(STUDY)
    done = crash_victim.command(["study", "tiny.yaml", "--output", "out"], tmp_path)
    assert done.code == 0, done.stderr
    directory = tmp_path / "out"
    report = check_folder(directory)
    assert (report.problems, report.notes, report.runs) == ([], [], 2)
    names = [
        "study.md",
        "study.parquet",
        "_SUCCESS",
        "one/_SUCCESS",
        "one/comparison.parquet",
        "one/accuracy.png",
    ]
    for path in [directory / name for name in names] + list(directory.glob("one/runs/*/arrivals/*")):
        content = path.read_bytes()
        for position in (len(content) // 2, len(content) - 9):
            path.write_bytes(content[:position] + bytes([content[position] ^ 16]) + content[position + 1 :])
            assert any(line.startswith(f"{path}: ") for line in lines(directory)), (path, position)
        path.write_bytes(content)
    files = listing(directory)
    shutil.rmtree(next(directory.glob("one/runs/*")))
    assert "though comparison.parquet reports it" in lines(directory)[0]
    (directory / "one" / ".comparison.parquet.1.ab.tmp").write_bytes(b"half")
    assert crash_victim.command(["resume", "out"], tmp_path).code == 0
    assert (lines(directory), listing(directory)) == ([], files)


def test_a_comparison_while_it_goes_on(fork_server, tmp_path):
    """Whoever looks at any moment finds no fault, and hears of what goes on."""
    small = [
        "task.clients=6",
        "server.concurrency=3",
        "client.local_steps=1",
        "model.width=4",
        "stop.arrivals=8",
    ]
    words = ["compare", "digits", "--algorithms", "fedbuff,fedasync", "--seeds", "0,1", *small]
    process = crash_victim.start(
        [*words, "snapshots.every_arrivals=1", "--executor", "inline", "--output", "out"], tmp_path
    )
    notes, looks = set(), 0
    while crash_victim.exit_code(process) is None:
        if (tmp_path / "out" / "manifest.json").exists():
            report = check_folder(tmp_path / "out")
            assert [str(problem) for problem in report.problems] == []
            notes |= {note.split(": ", 1)[1][:8] for note in report.notes}
            looks += 1
    assert crash_victim.ended(process, tmp_path).code == 0
    assert looks > 3
    assert "going on" in notes
    report = check_folder(tmp_path / "out")
    assert (report.problems, report.notes, report.runs, report.going_on) == ([], [], 4, False)


def test_a_run_of_a_comparison_without_its_manifest(finished, tmp_path):
    run = tmp_path / "all" / "runs" / read_manifest(finished)["run_id"]
    shutil.copytree(finished, run)
    write_manifest(tmp_path / "all", {"kind": "comparison", "entries": [{"run_id": run.name}]})
    assert lines(tmp_path / "all") == []
    (run / "manifest.json").unlink()
    assert [line.split("; ")[0] for line in lines(tmp_path / "all")] == [f"{run / 'manifest.json'}: missing"]

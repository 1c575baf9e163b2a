"""One folder, one run, one writer: opening, refusing, recovering, finishing."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedrevive.results import RunStore, Snapshot, read_table
from fedrevive.results.manifest import read_manifest, write_manifest
from fedrevive.results.schemas import TABLES
from fedrevive.results.snapshots import document_files
from fedrevive.settings.errors import UserError

FOUR_ARRIVALS = 4


@pytest.fixture
def interrupted(tmp_path, writer):
    """A run folder with snapshots at 2 and 4 arrivals."""
    directory = tmp_path / "run"
    with RunStore.open(directory, manifest=writer.MANIFEST) as store:
        for done in range(FOUR_ARRIVALS):
            store.append("arrivals", [writer.arrival(done)])
            if done % 2:
                store.commit(writer.snapshot(done + 1))
    return directory


def exit_code(directory, manifest):
    with pytest.raises(UserError) as caught:
        RunStore.open(directory, manifest=manifest)
    return int(caught.value.exit_code), str(caught.value)


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_a_new_folder_is_private_and_empty_of_results(tmp_path, writer):
    with RunStore.open(tmp_path / "a" / "b", manifest=writer.MANIFEST) as store:
        assert store.latest() is None
        assert not store.finished
        assert store.manifest["config"] == {"seed": 0}
    assert stat.S_IMODE((tmp_path / "a" / "b" / "manifest.json").stat().st_mode) == 0o600
    for table, schema in TABLES.items():
        assert read_table(tmp_path / "a" / "b", table).schema.equals(schema)


def test_a_snapshot_comes_back_as_it_was(interrupted, writer):
    with RunStore.attach(interrupted) as store:
        latest, expected = store.latest(), writer.snapshot(FOUR_ARRIVALS)
    assert (latest.arrivals, latest.virtual_time, latest.state) == (4, 4 * 10**9, expected.state)
    np.testing.assert_equal(latest.tensors, expected.tensors)
    np.testing.assert_equal(latest.base_models, expected.base_models)
    assert latest.tensors["teachers"].dtype == np.int64


def test_base_models_are_written_once_and_dropped_when_unused(tmp_path, writer):
    model = np.ones(10_000, np.float32)
    with RunStore.open(tmp_path / "run", manifest=writer.MANIFEST) as store:
        blobs = tmp_path / "run" / "blobs"
        store.commit(Snapshot(1, 0, {}, {"x": np.zeros(1)}, {0: model}))
        big = max(blobs.iterdir(), key=lambda path: path.stat().st_size)
        inode = big.stat().st_ino
        store.commit(Snapshot(2, 0, {}, {"x": np.ones(1)}, {0: model}))
        assert big.stat().st_ino == inode
        for arrivals in (3, 4):
            store.commit(Snapshot(arrivals, 0, {}, {"x": np.ones(1)}, {}))
        assert not big.exists()
        assert len(list(blobs.iterdir())) == 1


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"config": {"seed": 1}}, "seed is 0 there and 1 here"),
        ({"config": {"seed": 0, "task": {"clients": 9}}}, "task.clients is absent there and 9 here"),
        (
            {"config": {"seed": 0, "compute": {"workers": 2}}, "versions": {"fedrevive": "9"}},
            "versions.fedrevive",
        ),
    ],
)
def test_a_folder_with_another_run_is_refused_by_the_key_that_differs(interrupted, other, named):
    code, line = exit_code(interrupted, {"run_id": "f" * 16, **other})
    assert code == 2
    assert named in line
    assert read_table(interrupted, "arrivals").num_rows == FOUR_ARRIVALS


def test_a_run_that_has_saved_nothing_gives_way_to_another(tmp_path, writer):
    """The command that made the folder failed at once; its correction is a run with another id."""
    directory, failed = tmp_path / "run", {"run_id": "f" * 16, "config": {"seed": 1}}
    with RunStore.open(directory, manifest=failed) as store:
        store.append("arrivals", [writer.arrival(0)])
        assert exit_code(directory, writer.MANIFEST)[0] == 4  # while it goes on, it stays
    (directory / "events" / ".00000001.parquet").write_bytes(b"of a commit that did not come")
    writer.write(directory, 5)
    writer.write(tmp_path / "fresh", 5)
    assert read_manifest(directory)["run_id"] == writer.MANIFEST["run_id"]
    assert (writer.hashes(directory), writer.listing(directory)) == (
        writer.hashes(tmp_path / "fresh"),
        writer.listing(tmp_path / "fresh"),
    )
    assert exit_code(directory, failed)[0] == 2


@pytest.mark.parametrize("left", ["snapshots", "arrivals"])
def test_a_run_with_anything_saved_does_not_give_way(left, interrupted, writer):
    for name in {"snapshots", "arrivals"} - {left}:
        for path in (interrupted / name).iterdir():
            path.unlink()
    before = writer.listing(interrupted)
    assert exit_code(interrupted, {"run_id": "f" * 16, "config": {"seed": 1}})[0] == 2
    assert writer.listing(interrupted) == before


def test_foreign_folders_and_files_are_refused_and_left_alone(tmp_path, writer):
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    (folder / "thesis.tex").write_text("x")
    file.write_text("x")
    assert exit_code(folder, writer.MANIFEST)[0] == 2
    assert exit_code(file, writer.MANIFEST)[0] == 2
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]
    assert file.read_text() == "x"


def test_attach_wants_a_run_folder_with_an_undamaged_manifest(interrupted, tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match="not a run folder") as caught:
            RunStore.attach(path)
        assert caught.value.exit_code == 2
    manifest = interrupted / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"seed": 0', '"seed": 7'))
    with pytest.raises(UserError, match="damaged") as caught:
        RunStore.attach(interrupted)
    assert caught.value.exit_code == 3


def test_the_folder_of_a_comparison_is_no_run(tmp_path, writer):
    write_manifest(tmp_path, {"kind": "comparison", "entries": []})
    assert exit_code(tmp_path, writer.MANIFEST)[0] == 2
    with pytest.raises(UserError, match="not a single run"):
        RunStore.attach(tmp_path)


def test_a_later_schema_version_is_refused(tmp_path, writer):
    RunStore.open(tmp_path / "run", manifest={**writer.MANIFEST, "schema_version": "2"}).close()
    with pytest.raises(UserError, match="schema_version is '2'") as caught:
        read_table(tmp_path / "run", "arrivals")
    assert caught.value.exit_code == 2


def test_a_second_process_is_told_who_holds_the_folder(tmp_path, writer):
    child = (
        "import sys; from pathlib import Path; from fedrevive.results import RunStore\n"
        f"store = RunStore.open(Path(sys.argv[1]), manifest={writer.MANIFEST!r})\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", child, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    code, line = exit_code(tmp_path / "run", writer.MANIFEST)
    assert code == 4
    assert f"pid {process.pid} on {os.uname().nodename}" in line
    process.kill()
    process.communicate()
    RunStore.open(tmp_path / "run", manifest=writer.MANIFEST).close()


@pytest.mark.parametrize("damage", ["document", "truncated document", "blob", "part"])
def test_damage_to_the_newest_snapshot_falls_back_to_the_one_before(interrupted, writer, caplog, damage):
    newest, older = document_files(interrupted)
    if damage == "document":
        flip(newest, newest.stat().st_size // 2)
    elif damage == "truncated document":
        newest.write_bytes(newest.read_bytes()[:-20])
    elif damage == "blob":
        flip(
            interrupted / "blobs" / (json.loads(newest.read_text())["snapshot"]["tensors"] + ".safetensors"),
            300,
        )
    else:
        flip(interrupted / "arrivals" / "00000002.parquet", 100)
    with caplog.at_level(logging.WARNING), RunStore.attach(interrupted) as store:
        assert store.latest().arrivals == 2
        assert read_table(interrupted, "arrivals")["sequence"].to_pylist() == [0, 1]
        assert document_files(interrupted) == [older]
        assert [path.name for path in (interrupted / "arrivals").iterdir()] == ["00000001.parquet"]
        store.append("arrivals", [writer.arrival(n) for n in (2, 3)])
        store.commit(writer.snapshot(4))
    assert "going on from arrival 2" in caplog.text
    assert read_table(interrupted, "arrivals").num_rows == FOUR_ARRIVALS


def test_no_bit_flip_in_a_snapshot_document_goes_unseen(interrupted):
    newest = document_files(interrupted)[0]
    content = newest.read_bytes()
    for position in range(0, len(content), 7):
        flip(newest, position)
        assert read_table(interrupted, "arrivals").num_rows == 2, position
        newest.write_bytes(content)


def test_without_an_intact_snapshot_nothing_is_deleted(interrupted, writer):
    for path in document_files(interrupted):
        flip(path, 80)
    before = sorted(path for path in interrupted.rglob("*"))
    assert exit_code(interrupted, writer.MANIFEST)[0] == 3
    assert sorted(path for path in interrupted.rglob("*")) == before
    with pytest.raises(UserError) as caught:
        read_table(interrupted, "arrivals")
    assert caught.value.exit_code == 3


def test_a_finished_run_keeps_results_and_drops_resume_state(interrupted, writer):
    model = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
    with RunStore.attach(interrupted) as store:
        store.append("arrivals", [writer.arrival(4)])
        store.finish(model, {"final_accuracy": 0.75})
        assert store.finished
        with pytest.raises(RuntimeError, match="finished"):
            store.commit(writer.snapshot(5))
    names = {path.name for path in interrupted.iterdir()}
    assert names == {"LOCK", "_SUCCESS", "manifest.json", "model.safetensors", *TABLES}
    np.testing.assert_equal(load_file(interrupted / "model.safetensors"), model)
    assert [path.name for path in (interrupted / "arrivals").iterdir()] == ["00000003.parquet"]
    assert read_table(interrupted, "arrivals")["sequence"].to_pylist() == [0, 1, 2, 3, 4]
    success = json.loads((interrupted / "_SUCCESS").read_text())
    with RunStore.attach(interrupted) as store:
        assert store.finished
        assert store.latest() is None
        assert store.manifest["summary"] == {"final_accuracy": 0.75}
        assert store.manifest["hashes"] == success["hashes"]
    assert success["rows"]["arrivals"] == 5


def test_damage_to_a_finished_table_is_reported(interrupted, writer):
    with RunStore.attach(interrupted) as store:
        store.finish({"weight": np.zeros(1, np.float32)}, {})
    part = interrupted / "arrivals" / "00000003.parquet"
    flip(part, 200)
    with pytest.raises(UserError, match="sha256") as caught:
        read_table(interrupted, "arrivals")
    assert caught.value.exit_code == 3
    part.unlink()
    with pytest.raises(UserError, match="missing") as caught:
        read_table(interrupted, "arrivals")
    assert caught.value.exit_code == 3


def test_hashes_do_not_depend_on_the_commits(tmp_path, writer):
    hashes = []
    for commits in ((), (1, 2, 3), (3,)):
        directory = tmp_path / str(len(commits))
        with RunStore.open(directory, manifest=writer.MANIFEST) as store:
            for done in range(FOUR_ARRIVALS):
                store.append("arrivals", [writer.arrival(done)])
                if done + 1 in commits:
                    store.commit(writer.snapshot(done + 1))
            store.finish(writer.server_tensors(4), {})
            hashes.append(store.manifest["hashes"])
    assert hashes[0] == hashes[1] == hashes[2]


def test_a_failed_commit_can_be_repeated(interrupted, writer):
    with RunStore.attach(interrupted) as store:
        store.append("arrivals", [writer.arrival(n) for n in (4, 5)])
        moved = (interrupted / "snapshots").rename(interrupted / "elsewhere")
        with pytest.raises(UserError, match="No such file") as caught:
            store.commit(writer.snapshot(6))
        assert caught.value.exit_code == 5
        moved.rename(interrupted / "snapshots")
        assert read_table(interrupted, "arrivals").num_rows == FOUR_ARRIVALS
        store.commit(writer.snapshot(6))
    assert read_table(interrupted, "arrivals").num_rows == 6


def test_the_store_needs_neither_torch_nor_ray():
    heavy = {"torch", "ray", "pandas", "scipy", "matplotlib"}
    code = f"import sys, fedrevive.results; print(sorted({heavy} & {{*sys.modules}}))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )

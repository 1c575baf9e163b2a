"""`fedrevive fsck` on searches: finished, damaged, going on."""

import json
import random as chance
import shutil
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fedrevive.results.fsck import Report, check_folder
from fedrevive.results.tables import table_hash
from fedrevive_tuning.folder import KIND
from fedrevive_tuning.table import trials_table
from fedrevive_tuning.verification import check_records

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

FLIPS = 60


def checked(directory: Path) -> Report:
    return check_folder(directory, {KIND: check_records})


@pytest.fixture
def finished(random, tmp_path) -> Path:
    return Path(shutil.copytree(random, tmp_path / "out"))


def test_finished_searches_are_without_fault(pair):
    for name, runs in (("random", 8), ("asha", 6)):
        report = checked(pair[name] / "out")
        assert ([str(problem) for problem in report.problems], report.runs) == ([], runs)
    stopped = [note for note in report.notes if "not complete" in note]
    assert len(stopped) == len(report.notes)  # the runs that asha stopped


def test_no_flipped_bit_in_a_finished_search_is_silent(finished):
    """What a user reads is told of as damaged, or reads as before."""
    draws, silent = chance.Random(0), []
    own = [path for path in finished.iterdir() if path.is_file() and path.name != "LOCK"]
    files = sorted([*own, *finished.glob("trials/*"), *next(finished.glob("runs/*")).rglob("*.*")])
    for path in (files * FLIPS)[:FLIPS]:
        content = path.read_bytes()
        damaged = bytearray(content)
        position = draws.randrange(len(damaged))
        damaged[position] ^= 1 << draws.randrange(8)
        path.write_bytes(damaged)
        if not any(problem.path == path for problem in checked(finished).problems):
            silent.append(f"{path}, byte {position}")
        path.write_bytes(content)
    assert silent == []
    assert checked(finished).problems == []


@pytest.mark.slow
def test_records_that_their_runs_do_not_bear_out(finished, tiny):
    before = table_hash(tiny.table(finished))
    record = json.loads((finished / "trials" / "00002.json").read_text())
    first, second = (finished / "runs" / identity for identity in record["run_ids"])
    shutil.rmtree(first)
    (second / "_SUCCESS").unlink()
    lines = sorted(str(problem) for problem in checked(finished).problems)
    assert [
        line.split(f"; delete {finished / 'trials' / '00002.json'} and resume")[0] for line in lines
    ] == sorted(
        [f"{first}: missing, though trial 2 is complete", f"{second}: not complete, though trial 2 is"]
    )
    (finished / "trials" / "00002.json").unlink()  # the remedy
    report = checked(finished)
    assert report.problems == []
    assert any("1 of 4 trials are not done" in note for note in report.notes)
    tiny.ended(tiny.begin(finished.parent, "resume", "out", "--json"))
    assert checked(finished).problems == []
    assert table_hash(tiny.table(finished)) == before


def test_the_command_names_the_file(tiny, finished):
    (finished / "trials" / "00001.json").write_text("{}")
    done = subprocess.run(
        tiny.command("fsck", "out"), cwd=finished.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert done.stdout.splitlines()[0].startswith("out/trials/00001.json: damaged")
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == ""


@pytest.mark.slow
def test_a_search_while_it_goes_on(tiny, tmp_path):
    tiny.write(tmp_path, tiny.RANDOM.replace("trials: 4", "trials: 2"))
    process, out, looks = tiny.tune(tmp_path), tmp_path / "out", 0
    while process.poll() is None:
        if (out / "manifest.json").exists():
            report = checked(out)
            assert [str(problem) for problem in report.problems] == []
            looks += report.going_on
    tiny.ended(process)
    assert looks > 5
    assert checked(out).problems == []
    assert table_hash(trials_table(out)) == table_hash(pq.read_table(out / "trials.parquet"))

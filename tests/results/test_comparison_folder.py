"""Two writers at once: one gets the folder of a comparison or a study, the other is told so and writes nothing."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from fedrevive.cli.app import run_app
from fedrevive.results.comparison_folder import Entry, claimed, claimed_study
from fedrevive.results.lock import take_lock
from fedrevive.results.manifest import read_manifest
from fedrevive.settings.errors import ExitCode, UserError
from fedrevive.settings.identity import run_id
from fedrevive.settings.loading import load

WRITERS = 8


def entries(seed: int) -> list[Entry]:
    config = load("digits", [f"seed={seed}", "stop.arrivals=3"])
    return [Entry("fedrevive", config, run_id(config))]


def claim_comparison(directory: Path, seed: int):
    return claimed(directory, entries(seed), {"writer": seed})


def claim_study(directory: Path, seed: int):
    return claimed_study(directory, {"one": entries(seed)}, {"writer": seed}, {})


@pytest.mark.parametrize("claim", [claim_comparison, claim_study])
def test_of_many_at_once_one_gets_the_folder(tmp_path, claim):
    starting, ended = threading.Barrier(WRITERS), threading.Barrier(WRITERS)

    def writer(seed: int) -> int:
        starting.wait(30)
        with ExitStack() as stack:
            code = 0
            try:
                stack.enter_context(claim(tmp_path / "out", seed))
            except UserError as error:
                code = int(error.exit_code)
            ended.wait(30)  # the one that has it keeps it until all have tried
        return code

    with ThreadPoolExecutor(WRITERS) as pool:
        codes = list(pool.map(writer, range(WRITERS)))
    assert sorted(codes) == [0, *[ExitCode.RUNNING] * (WRITERS - 1)]
    winner = codes.index(0)
    assert read_manifest(tmp_path / "out")["writer"] == winner
    if claim is claim_study:
        inner = read_manifest(tmp_path / "out" / "one")["entries"]
        assert [entry["run_id"] for entry in inner] == [entry.run_id for entry in entries(winner)]


STUDY = "name: s\nsettings: {one: digits stop.arrivals=3}\nalgorithms: [fedbuff]\nseeds: [0]\n"


@pytest.mark.parametrize(
    "words",
    [
        ("compare", "digits", "stop.arrivals=3", "--algorithms", "fedbuff", "--seeds", "0"),
        ("study", "s.yaml"),
    ],
)
def test_a_command_writes_nothing_into_a_folder_that_another_one_holds(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(STUDY)
    Path("out").mkdir()
    lock = take_lock(Path("out"))
    try:
        assert run_app([*words, "--executor", "inline", "--output", "out"]) == ExitCode.RUNNING
    finally:
        os.close(lock)
    assert capsys.readouterr().err.startswith("error: out: already running: pid ")
    assert os.listdir("out") == ["LOCK"]

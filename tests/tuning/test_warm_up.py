"""Trials that start from a shared warm-up end in the bits of trials from zero (`search.fork`)."""

import json

import pytest

from fedrevive_tuning.definition import read_search
from fedrevive_tuning.warm_up import warm_up

LATE = """
searcher: grid
seeds: [0, 1]
fork: {fork}
space:
  algorithm.teacher_capacity: {{grid: [1, 4]}}
  algorithm.beta.family: {{grid: [linear, constant]}}
"""


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_forked_trials_equal_trials_from_zero(tiny, tmp_path):
    tables = []
    for fork in ("auto", "off"):
        folder = tmp_path / fork
        folder.mkdir()
        tiny.write(folder, LATE.format(fork=fork))
        process = tiny.tune(folder)
        out, err = process.communicate(timeout=500)
        assert process.returncode == 0, err
        # warm-up: 4 arrivals before the freeze ends, 3 of 4 trials, 2 seeds
        assert ("24 arrivals saved" in err) == (fork == "auto")
        assert json.loads(out.splitlines()[-1])["trials"] == 4
        assert not (folder / "out" / "prefixes").exists()
        runs = sorted((folder / "out" / "runs").iterdir())
        assert len(runs) == 8
        hashes = {run.name: json.loads((run / "manifest.json").read_text())["hashes"] for run in runs}
        tables.append((hashes, tiny.table(folder / "out").to_pylist()))
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("space", "arrivals"),
    [
        ("algorithm.distill_lr: {choice: [0.1, 0.2]}", 9),  # one after the warm-up of 8
        ("algorithm.generate_every_versions: {choice: [2, 3]}", 4),
        ("server.lr: {choice: [0.1, 0.2]}", 0),
        ("stop.arrivals: {choice: [20, 24]}", 0),
    ],
)
def test_what_is_shared_follows_from_what_is_searched(tiny, tmp_path, space, arrivals):
    tiny.write(tmp_path, f"searcher: random\ntrials: 2\nspace:\n  {space}")
    assert warm_up(read_search(str(tmp_path / "search.yaml"))).arrivals == arrivals


def test_the_prefix_keeps_the_largest_capacity(tiny, tmp_path):
    tiny.write(tmp_path, LATE.format(fork="auto"))
    shared = warm_up(read_search(str(tmp_path / "search.yaml")))
    assert {config.algorithm.teacher_capacity for config in shared.configs.values()} == {4}
    assert set(shared.configs) == {0, 1}

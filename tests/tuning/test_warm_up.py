"""Trials that start from a shared warm-up end in the bits of trials from zero (`search.fork`)."""

import json

import pytest

from fedrevive.results.manifest import write_manifest
from fedrevive_tuning.definition import read_search
from fedrevive_tuning.folder import SearchFolder
from fedrevive_tuning.warm_up import _drop_unlike, warm_up

LATE = """
searcher: grid
seeds: [0, 1]
fork: {fork}
space:
  algorithm.teacher_capacity: {{grid: [1, 4]}}
  algorithm.beta.family: {{grid: [linear, constant]}}
"""


@pytest.mark.slow  # tests/fork shows the same in seconds, without Ray
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
        ("stop.virtual_time: {choice: [20, 24]}", 0),
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


@pytest.mark.parametrize("change", ["other package versions", "damage"])
def test_a_common_part_from_elsewhere_is_made_again(tiny, tmp_path, change):
    """It only saves work: neither an upgrade nor a bad disk may cost a trial."""
    tiny.write(tmp_path, LATE.format(fork="auto"))
    shared = warm_up(read_search(str(tmp_path / "search.yaml")))
    folder = SearchFolder(tmp_path / "out")
    prefix = shared.folder(folder, 0)
    assert prefix is not None
    prefix.mkdir(parents=True)
    details = {"versions": {"torch": "1"}, "lane": {}}
    write_manifest(prefix, {"kind": "run", **details})
    _drop_unlike(prefix, details)
    assert prefix.exists()
    if change == "damage":
        (prefix / "manifest.json").write_text("{}")
    _drop_unlike(prefix, {**details, "versions": {"torch": "2"}} if change != "damage" else details)
    assert not prefix.exists()

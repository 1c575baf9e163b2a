"""Experiments and searches on three Ray nodes: the results of one process, also when a node dies."""

import time

import pytest
from ray_processes import descendants, of_kind
from real_clusters import SMALL, ended, environment, inline_hashes, three_nodes

from fedrevive.results.manifest import read_manifest

pytestmark = [pytest.mark.slow, pytest.mark.ray]

SEARCH = """
experiment: digits
overrides: {OVERRIDES, compute.device: cpu, stop.arrivals: 100, snapshots.every_arrivals: 5}
search:
  searcher: grid
  seeds: [0]
  space: {server.lr: {grid: [0.1, 0.2, 0.4]}}
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, three_nodes(tmp_path_factory.mktemp("nodes"), patch) as nodes:
        yield nodes


def works_for(search, raylet: int) -> bool:
    """Whether a run of the search that can be continued takes place on a node."""
    writing = {
        int((snapshots.parent / "LOCK").read_text().split()[1])
        for snapshots in search.glob("runs/*/snapshots")
        if list(snapshots.iterdir())
    }
    return bool(writing & set(descendants(raylet)))


def wait_until(condition, process, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_every_node_is_asked_and_gives_the_same_bits_and_one_that_is_missing_is_said(nodes, tmp_path):
    found, error = ended(
        nodes.begin(tmp_path, "cluster", "check", "--nodes", "4", "--storage", str(tmp_path), "--json"), 5
    )
    assert (error, found["problems"]) == ("error: nodes: 3 instead of 4", ["nodes: 3 instead of 4"])
    assert len({node["smoke"]["model"] for node in found["nodes"]}) == 1
    assert [node["head"] for node in found["nodes"]] == [True, False, False]
    assert [node["problem"] for node in found["nodes"]] == [""] * 3
    assert all(node["facts"]["reads"] and node["facts"]["writes"] for node in found["nodes"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("token", "line"), [("0" * 64, "does not take your token"), ("", "asks for a token, and you have none")]
)
def test_without_its_token_the_cluster_is_closed(nodes, tmp_path, token, line, monkeypatch):
    import real_clusters

    (tmp_path / "token").write_text(token)
    wrong = environment(tmp_path / "token", HOME=str(tmp_path))
    if not token:
        del wrong["RAY_AUTH_TOKEN_PATH"]
    monkeypatch.setattr(real_clusters, "environment", lambda _: wrong)
    started = time.monotonic()
    _, error = ended(nodes.begin(tmp_path, "run", "digits", *SMALL, "stop.arrivals=3"), 2)
    assert line in error
    assert time.monotonic() - started < 30
    assert sorted(path.name for path in tmp_path.iterdir()) == ["token"]


def test_a_run_that_loses_a_node_ends_with_the_bits_of_one_process(nodes, tmp_path):
    words = [*SMALL, "stop.arrivals=300", "snapshots.every_arrivals=20"]
    running = nodes.begin(tmp_path, "run", "digits", *words, "--workers", "3", "--output", "out", "--json")
    raylets = nodes.raylets()
    wait_until(lambda: all(of_kind("client", raylet) for raylet in raylets), running)
    wait_until(lambda: list(tmp_path.glob("out/snapshots/*")), running)
    assert [len(of_kind("server", raylet)) for raylet in raylets] == [1, 0, 0]  # where the GPU is
    nodes.kill()
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    hashes = ended(running)[0]["hashes"]
    nodes.refill()
    assert hashes == inline_hashes(tmp_path / "out", tmp_path / "inline")


def test_a_search_that_loses_a_node_ends_with_the_bits_of_one_process(nodes, tmp_path):
    overrides = ", ".join(word.replace("=", ": ") for word in SMALL)
    (tmp_path / "s.yaml").write_text(SEARCH.replace("OVERRIDES", overrides))
    running = nodes.begin(tmp_path, "tune", "./s.yaml", "--output", "out", "--json")
    wait_until(lambda: works_for(tmp_path / "out", nodes.raylets()[-1]), running)
    nodes.kill()
    assert not list(tmp_path.glob("out/trials.parquet"))
    outcome, _ = ended(running)
    nodes.refill()
    assert outcome["trials"] == 3
    runs = sorted(tmp_path.glob("out/runs/*"))
    assert len(runs) == 3
    for run in runs:
        assert read_manifest(run)["hashes"] == inline_hashes(run, tmp_path / f"inline-{run.name}")

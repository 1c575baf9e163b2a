"""`fedrevive replay`: another algorithm on the arrivals of a finished run."""

import json

import pytest

from fedrevive.cli.app import run_app
from fedrevive.results.reading import read_table

TINY = ["task.clients=24", "server.concurrency=6", "client.local_steps=1", "client.batch_size=4", "model.width=4",
        "evaluation.every_arrivals=12", "--executor", "inline"]  # fmt: skip
FAULTS = ["faults.nan.jobs=0.2", "faults.crash.jobs=0.1", "faults.timeout=1.0"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run that its virtual time ends, with faults: some uploads are rejected, some never come."""
    folder = tmp_path_factory.mktemp("recorded") / "run"
    words = [
        "run",
        "digits",
        "algorithm.name=fedbuff",
        "stop.arrivals=null",
        "stop.virtual_time=0.9",
        *TINY,
        *FAULTS,
    ]
    assert run_app([*words, "--output", str(folder)]) == 0
    return folder


def uploads(folder):
    names = ["job", "client", "dispatched_at", "arrives_at", "accepted_at"]
    return read_table(folder, "arrivals").select(names).to_pylist()


def events(folder):
    return read_table(folder, "events").select(["kind", "client", "job", "virtual_time"]).to_pylist()


def test_another_algorithm_meets_the_same_arrivals(recorded, tmp_path, capsys):
    words = ["algorithm.name=fedrevive", "algorithm.warmup_versions=4", "server.lr=0.05", "--json"]
    assert run_app(["replay", str(recorded), *words, "--output", str(tmp_path / "again")]) == 0
    outcome = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert uploads(tmp_path / "again") == uploads(recorded)
    assert events(tmp_path / "again") == events(recorded)
    manifest = json.loads((tmp_path / "again" / "manifest.json").read_text())
    assert manifest["config"]["algorithm"]["name"] == "fedrevive"
    assert manifest["config"]["stop"]["arrivals"] == outcome["arrivals"]
    assert outcome["rejected"] > 0
    assert not (recorded / "snapshots").exists()


def test_the_same_experiment_gives_the_same_bits(recorded, tmp_path):
    """By another name: the recorded stop condition and the replayed one end at the same upload."""
    assert run_app(["replay", str(recorded), "name=again", "--output", str(tmp_path / "again")]) == 0
    first, second = (
        json.loads((f / "manifest.json").read_text())["hashes"] for f in (recorded, tmp_path / "again")
    )
    assert first == second


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "nothing to change; name another algorithm"),
        (["digits"], "'digits': not an override"),
        (["seed=1"], "seed: 1 moves the arrivals, which were recorded with 0"),
        (["task.clients=30"], "task.clients: 30 moves the arrivals"),
        (["server.concurrency=5"], "server.concurrency: 5 moves the arrivals"),
        (["delays.kind=constant"], "delays.kind: 'constant' moves the arrivals"),
        (["faults.nan.jobs=0"], "faults.nan.jobs: 0.0 moves the arrivals"),
        (["server.charge_time.flops_per_unit=1e9"], "server.charge_time.flops_per_unit: 1000000000.0 moves"),
        (["algorithm.name=fedavg"], "algorithm.name: fedavg dispatches clients in another way than fedbuff"),
        (["algorithm.name=fedbuf"], "did you mean 'fedbuff'?"),
    ],
)
def test_what_would_move_the_arrivals_is_refused(recorded, tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    assert run_app(["replay", str(recorded), *words]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert says in line
    assert list(tmp_path.iterdir()) == []


def test_algorithms_of_other_cost_meet_other_arrivals(tmp_path, capsys):
    words = ["run", "digits", "algorithm.name=fedrevive", "stop.arrivals=30", "algorithm.warmup_versions=2",
             "algorithm.freeze_versions=1", "server.charge_time.flops_per_unit=2e10", *TINY]  # fmt: skip
    assert run_app([*words, "--output", str(tmp_path / "charged")]) == 0
    capsys.readouterr()
    assert run_app(["replay", str(tmp_path / "charged"), "algorithm.name=fedbuff"]) == 2
    assert "with server.charge_time, algorithms of other cost meet other arrivals" in capsys.readouterr().err


def test_only_a_finished_run_can_be_replayed(recorded, tmp_path, capsys):
    half = tmp_path / "half"
    half.mkdir()
    manifest = json.loads((recorded / "manifest.json").read_text())
    for name in ("summary", "sha256"):
        del manifest[name]
    from fedrevive.results.manifest import write_manifest

    write_manifest(half, manifest)
    for folder, says in ((half, "the run is not finished; go on with: fedrevive resume"),
                         (tmp_path / "nowhere", "not a run folder")):  # fmt: skip
        assert run_app(["replay", str(folder), "algorithm.name=fedasync"]) == 2
        assert says in capsys.readouterr().err


def test_a_record_that_another_timeline_made_is_refused(recorded, tmp_path, capsys, monkeypatch):
    """As if an older version had drawn clients otherwise: the settings agree and the uploads do not."""
    from fedrevive import replay

    table = read_table(recorded, "arrivals")
    moved = table.set_column(2, "client", [[(c + 1) % 24 for c in table.column("client").to_pylist()]])
    monkeypatch.setattr(replay, "read_table", lambda *_: moved)
    assert run_app(["replay", str(recorded), "algorithm.name=fedasync"]) == 2
    line = capsys.readouterr().err
    assert "upload 0 came from client" in line
    assert "was it recorded by another version of fedrevive?" in line

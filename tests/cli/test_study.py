"""`fedrevive study` and the controls of `compare`, as a user types them."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

TINY = (
    "task.clients=24 server.concurrency=6 client.local_steps=2 evaluation.every_arrivals=6 stop.arrivals=18"
)
STUDY = """
name: small
common: stop.arrivals=18
settings:
  skewed: digits task.clients=24 server.concurrency=6 client.local_steps=2 task.partition.alpha=0.1
  even: digits task.clients=24 server.concurrency=6 client.local_steps=2 task.partition.alpha=5
algorithms: [fedbuff:server.lr=0.05/0.5, fedrevive:server.lr=0.05/0.5]
controls: [fedrevive:pool=noise]
seeds: [0, 1]
"""


def fedrevive(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fedrevive", *words], cwd=cwd, capture_output=True, text=True, timeout=240, check=False
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    (folder / "small.yaml").write_text(STUDY)
    done = fedrevive("study", "small.yaml", "--executor", "inline", "--output", "out", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "outcome.json").write_text(done.stdout.splitlines()[-1])
    return folder


def test_controls_take_the_selected_configuration(finished):
    runs = pq.read_table(finished / "out" / "study.parquet").to_pylist()
    chosen = {
        (run["setting"], run["label"], run["seed"]): run["configuration"] for run in runs if run["selected"]
    }
    assert len(chosen) == 2 * 3 * 2
    for setting in ("skewed", "even"):
        for seed in (0, 1):
            followed = chosen[setting, "fedrevive:server.lr=0.05/0.5", seed]
            assert chosen[setting, "fedrevive:pool=noise", seed] == followed
    # The grid runs on the first seed only, and a control never runs in another configuration than its algorithm's.
    assert sum(not run["selected"] for run in runs) == 2 * 2


def test_the_report_says_who_is_ahead(finished):
    report = (finished / "out" / "study.md").read_text()
    outcome = json.loads((finished / "outcome.json").read_text())
    assert set(outcome["rows"]) == {"skewed", "even"}
    for setting, rows in outcome["rows"].items():
        best = max(rows[:2], key=lambda row: row["final_accuracy"]["mean"])
        line = next(
            line for line in report.splitlines() if line.startswith(f"| {best['label'].split(':')[0]} | ")
        )
        column = 1 + list(outcome["rows"]).index(setting) + 1
        assert line.split("|")[column].strip().startswith(f"**{best['final_accuracy']['mean']:.3f}")


def test_a_study_goes_on_after_a_loss(finished):
    before = (finished / "out" / "study.md").read_bytes()
    run = next((finished / "out" / "even" / "runs").glob("*/_SUCCESS")).parent
    for path in sorted(run.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    run.rmdir()
    done = fedrevive("resume", "out", cwd=finished)
    assert done.returncode == 0, done.stderr
    after = (finished / "out" / "study.md").read_bytes()
    table = "### Processor seconds"  # measured anew
    assert after.split(table.encode())[0] == before.split(table.encode())[0]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeds: [0, 1]", "seeds: [0, 0]", "seeds: 0 is named twice"),
        ("seeds: [0, 1]", "seeds: []", "seeds"),
        ("seeds: [0, 1]", "seeds: [-1]", ">= 0"),
        ("seeds: [0, 1]", "seeds: [0, 1]\nseed: 0", "seed: unknown field"),
        ("  even:", "  ../even:", "settings"),
        ("fedbuff:server.lr=0.05/0.5", "fedbuff", "equal size"),
        ("fedrevive:pool=noise", "ca2fl:server.lr=1", "controls: ca2fl is not among the algorithms"),
        ("fedrevive:pool=noise", "fedrevive:pool=noise/real", "has a grid"),
        ("fedrevive:pool=noise", "fedrevive:server.lr=0.5", "which the grid of"),
        ("fedrevive:pool=noise", "fedrevive:pool=nois", "pool"),
        ("even: digits", "even: digit", "no such preset"),
        ("name: small", "name: 3", "name"),
    ],
)
def test_mistakes_are_one_line(old, new, said, tmp_path):
    assert old in STUDY
    (tmp_path / "wrong.yaml").write_text(STUDY.replace(old, new))
    done = fedrevive("study", "wrong.yaml", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wrong.yaml"]


def test_shipped_studies_are_valid(tmp_path):
    from fedrevive.cli.competitors import Competitors, competing
    from fedrevive.settings.loading import split_words
    from fedrevive.settings.study import load_study, study_names

    assert study_names()
    for name in study_names():
        study = load_study(name)
        for words in study.settings.values():
            source, own = split_words(words.split())
            competitors = Competitors(study.algorithms, study.controls, study.seeds)
            assert competing(source, [*study.common.split(), *own], competitors, {})


def test_compare_takes_controls(tmp_path):
    words = ["compare", "digits", *TINY.split(), "--executor", "inline", "--seeds", "0", "--json"]
    algorithms = ["--algorithms", "fedbuff:server.lr=0.1/0.2,fedrevive:server.lr=0.1/0.2"]
    done = fedrevive(
        *words,
        *algorithms,
        "--controls",
        "fedrevive:reviver.kind=server_ema",
        "--output",
        "out",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert [row["label"] for row in rows][2] == "fedrevive:reviver.kind=server_ema"
    assert rows[2]["configuration"] == rows[1]["configuration"]
    missing = fedrevive(*words, "--algorithms", "fedbuff", "--controls", "fedrevive:pool=noise", cwd=tmp_path)
    assert missing.returncode == 2
    assert "--controls: fedrevive is not among the algorithms" in missing.stderr

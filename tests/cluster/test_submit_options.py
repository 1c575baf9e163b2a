"""What `--submit`, `--address`, `status`, `logs` and `stop` refuse before anything is sent or started."""

import pytest

from fedrevive.cli.app import run_app
from fedrevive.cli.preflight import Offer
from fedrevive.provenance import code_hash, lane, versions
from fedrevive.runtime.cluster_offer import differences, unshared
from fedrevive.runtime.cluster_survey import Facts, Node, Report

SUBMIT = ("tune", "digits", "--submit")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((*SUBMIT, "http://127.0.0.2:1"), "--output: null is no absolute folder; with --submit, name one"),
        ((*SUBMIT, "http://127.0.0.2:1", "--output", "out"), "--output: 'out' is no absolute folder"),
        (
            (*SUBMIT, "127.0.0.1:8265", "--output", "/x"),
            "--submit: '127.0.0.1:8265' is no address of a dashboard",
        ),
        (
            (*SUBMIT, "http://10.0.0.9:8265", "--output", "/x"),
            "--submit: 'http://10.0.0.9:8265' would send the token",
        ),
        (
            (*SUBMIT, "http://127.0.0.2:1", "--address", "auto"),
            "--submit: the job finds its cluster by itself",
        ),
        (("tune", "digits", "--trials", "0", "--submit", "x"), "invalid value for '--trials'"),
        (("status", "--dashboard", "ray://127.0.0.1:1"), "--dashboard: 'ray://127.0.0.1:1' is no address"),
        (
            ("run", "digits", "--address", "ray://10.0.0.1:10001"),
            "--address: 'ray://10.0.0.1:10001' is no host:port",
        ),
        (
            ("run", "digits", "--address", "nonsense"),
            "--address: 'nonsense' is no host:port such as 10.0.0.1:6379",
        ),
        (
            ("run", "digits", "--address", "127.0.0.2:1"),
            "--address: nothing answers at 127.0.0.2:1; is the cluster up",
        ),
        (("tune", "digits", "--address", "127.0.0.2:1"), "--address: nothing answers at 127.0.0.2:1"),
        (("compare", "digits", "--address", "127.0.0.2:1"), "--address: nothing answers at 127.0.0.2:1"),
        (
            ("run", "digits", "--address", "x", "--chaos", "0"),
            "--chaos: it kills processes of this machine only",
        ),
        (("run", "digits", "--address", "127.0.0.2:1", "--executor", "inline"), "--address: "),
        (("cluster", "check", "--address", "127.0.0.2:1"), "--address: nothing answers at 127.0.0.2:1"),
    ],
)
def test_it_is_one_line_and_nothing_is_created(words, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert run_app(words) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {line}")
    assert list(tmp_path.iterdir()) == []


def test_a_dashboard_that_is_not_there_is_the_environment(capsys):
    assert run_app(["status", "--dashboard", "http://127.0.0.1:1"]) == 5
    assert "no dashboard answers there; forward its port" in capsys.readouterr().err


def test_tokens_are_needed_everywhere(monkeypatch, capsys):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    for words in (("run", "digits", "--address", "127.0.0.2:1"), ("status",), ("cluster", "check")):
        assert run_app(words) == 2
        assert capsys.readouterr().err.startswith("error: RAY_AUTH_MODE: 'disabled' would let anyone")


def report(number: int, **changed: object) -> Report:
    found = {
        "host": "h", "versions": versions(), "lane": lane(), "code": code_hash(), "shared_memory": 1 << 30,
        "reads": True, "writes": True,
    }  # fmt: skip
    node = Node(str(number), f"10.0.0.{number}", number == 1, 4, 0, 1 << 20)
    return Report(node, Facts(**{**found, **changed}))  # type: ignore[arg-type]


def test_nodes_with_other_code_or_without_any_are_named():
    other = versions() | {"torch": "1.0"}
    silent = Report(report(4).node, None, "fedrevive is not installed there")
    lines = list(differences([report(1), report(2, versions=other), report(3, code="0"), silent]))
    assert [line.partition(": ")[0] for line in lines] == ["node 10.0.0.2", "node 10.0.0.3", "node 10.0.0.4"]
    assert "has torch 1.0, here it is" in lines[0]
    assert "other fedrevive sources" in lines[1]
    assert "fedrevive is not installed there" in lines[2]


def test_nodes_without_the_storage_are_named(tmp_path):
    lines = list(
        unshared([report(1), report(2, reads=False, writes=False), report(3, writes=False)], tmp_path)
    )
    assert ["10.0.0.2 does not see it" in lines[0], "10.0.0.3 cannot write there" in lines[1]] == [True, True]
    assert len(lines) == 2


def test_trials_in_one_process_fill_the_nodes_with_gpus_only():
    """Such a trial needs its processor and its share of a GPU on one node."""
    from fedrevive.cli.tune import _placement
    from fedrevive_tuning.definition import read_search

    search = read_search("digits").with_options(trials=2, seeds=(0,))
    base = search.config({}, 0)
    offer = Offer(cpus=20, gpus=2, address="10.0.0.1:6379", cpus_beside_gpus=4)
    placed = _placement(search, base, None, offer)
    assert (placed.concurrent, placed.gpu, placed.address) == (4, 0.5, "10.0.0.1:6379")
    assert (
        placed.sentence()
        == "a trial asks 1 CPU and 0.5 GPU; the cluster offers 4 CPUs and 2 GPUs: 4 at a time"
    )
    on_cpus = base.model_copy(update={"compute": base.compute.model_copy(update={"device": "cpu"})})
    assert _placement(search, on_cpus, None, offer).concurrent == 20

"""`fedrevive data check|show`."""

import json

import numpy as np
import pytest

from fedrevive.cli.app import run_app
from fedrevive.settings.task import DigitsTask
from fedrevive.tasks import load_task

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_check_reads_everything(here, capsys):
    assert run_app(["data", "check", "digits", "--json"]) == 0
    outcome = json.loads(capsys.readouterr().out)
    assert outcome == {"task": "digits", "samples": {"train": 1078, "validation": 269, "kd": 90, "test": 360}}
    assert run_app(["data", "check", "digits"]) == 0
    assert "1,078 train" in capsys.readouterr().out
    assert list(here.iterdir()) == []


def test_show_counts_what_load_task_deals_out_and_draws_it(here, capsys):
    words = ["data", "show", "digits", "task.clients=30", "task.partition.alpha=0.2", "seed=4"]
    assert run_app([*words, "-o", "map.png", "--json"]) == 0
    outcome = json.loads(capsys.readouterr().out)
    task = DigitsTask.model_validate({"clients": 30, "partition": {"kind": "dirichlet", "alpha": 0.2}})
    histograms = load_task(task, 4).class_histograms()
    assert outcome["class_histogram"] == histograms.sum(0).tolist()
    assert outcome["samples_per_client"] == {"min": 50, "median": 50, "max": 50}
    assert outcome["classes_per_client"]["max"] == (histograms > 0).sum(1).max()
    assert 1 < outcome["effective_classes"] < np.mean((histograms > 0).sum(1))
    first = (here / "map.png").read_bytes()
    assert first.startswith(PNG)
    assert run_app([*words, "-o", "map.png"]) == 0
    assert "heat map: map.png" in capsys.readouterr().out
    assert (here / "map.png").read_bytes() == first
    assert run_app([*words[:-1], "seed=5"]) == 0
    assert (here / "partition.png").read_bytes() != first


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["check"], "no experiment: name a preset"),
        (["check", "cifar100", "--data-dir", "."], "lacks train of CIFAR-100; add --download"),
        (["check", "femnist"], "task.data_dir: 'data' has no FEMNIST"),
        (["show", "mnist_writers"], "lacks train-images-idx3-ubyte; add --download"),
        (["show", "digits", "--data-dir", "x"], "task.data_dir: not a field of task.name=digits"),
        (["show", "digits", "-o", "map.jpg"], "-o: map.jpg must end in .png"),
        (["show", "digits", "-o", "no/map.png"], "-o: the folder no does not exist"),
        (["show", "digits", "task.partition.kind=natural"], "partition.kind=natural needs data that says"),
    ],
)
def test_bad_words_are_one_line_and_leave_nothing(here, capsys, words, says):
    assert run_app(["data", *words]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert says in line
    assert list(here.iterdir()) == []

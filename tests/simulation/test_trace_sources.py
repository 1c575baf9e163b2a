"""The public traces as tables, from small files in their format, and by hand from the real ones."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from fedrevive.cli.app import run_app
from fedrevive.settings.errors import UserError
from fedrevive.settings.loading import load
from fedrevive.simulation import trace_sources
from fedrevive.simulation.planning import schedule
from fedrevive.simulation.trace_table import read_trace

REAL_FILES = Path(os.environ.get("FEDREVIVE_TEST_TRACES", "nowhere"))
SOURCES = {"fedscale100": [], "flash": [], "seattle_rtt": ["--step-seconds", "0.05"],
           "cellular_4g5g": ["--step-seconds", "0.05"]}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "fedscale100_capacity.csv").write_text(
        "client_id,computation_ms_per_sample,communication_kbps\n1,100.0,2000.5\n2,50.0,8000\n"
    )
    hours = {
        "model": "A",
        "duration": 30,
        "finish_time": 100,
        "active": [5, 40, 60],
        "inactive": [25, 50, 60],
    }
    (tmp_path / "fedscale100_availability.json").write_text(json.dumps({"1": hours, "2": hours}))
    workload = {"mean": [1600, 600, 200], "std": [100, 20, 2]}
    (tmp_path / "flash_batch_train_time.json").write_text(
        json.dumps({"unit": "ms", "population_weight": [0, 1, 0], "femnist_cnn": workload})
    )
    user = {"down_u": 1000, "down_sigma": 0, "up_u": 500, "up_sigma": 400}
    (tmp_path / "flash_network_speed.json").write_text(json.dumps({"a": user}))
    rtt = np.arange(18, dtype=np.uint16).reshape(2, 3, 3)
    np.savez(tmp_path / "seattle_rtt.npz", rtt_centiseconds=rtt)
    (tmp_path / "cellular_4g5g_throughput.csv").write_text(
        "protocol,radio_type,throughput_mbps\nTCP,4G,92.1\nTCP,5G,0\nTCP,5G,500\n"
    )
    return tmp_path


def test_fedscale100(folder):
    """Training is three inferences of a batch; equal edges are no window."""
    first = list(trace_sources.fedscale100(folder, batch_size=10))[:3]
    assert first[0] == {
        "device": 1, "step_seconds": 3.0, "download_kbps": 2000.5, "upload_kbps": 2000.5,
    }  # fmt: skip
    windows = [(row["available_from_seconds"], row["available_until_seconds"]) for row in first[1:]]
    assert windows == [(5, 25), (40, 50)]
    assert {row["period_seconds"] for row in first[1:]} == {100}


def test_flash_draws_phones_by_weight_and_normal_times(folder):
    rows = list(trace_sources.flash(folder, "femnist_cnn", devices=50, jobs=40, seed=3))
    assert len(rows) == 2000
    steps = np.array([row["step_seconds"] for row in rows])
    assert steps.mean() == pytest.approx(0.6, abs=0.002)
    assert steps.std() == pytest.approx(0.02, abs=0.002)
    assert {row["download_kbps"] for row in rows} == {8192.0}
    assert min(row["upload_kbps"] for row in rows) == pytest.approx(0.05 * 500 * 8.192)  # never negative
    assert rows == list(trace_sources.flash(folder, "femnist_cnn", devices=50, jobs=40, seed=3))
    with pytest.raises(UserError, match="--workload: 'resnet' is unknown; choose one of femnist_cnn"):
        list(trace_sources.flash(folder, "resnet", 1, 1, 0))


def test_seattle_rtt_is_half_a_response_time_to_the_server(folder):
    rows = list(trace_sources.seattle_rtt(folder, server=1, step_seconds=0.5))
    assert rows == [
        {"device": 0, "step_seconds": 0.5}, {"device": 0, "latency_seconds": 0.005},
        {"device": 0, "latency_seconds": 0.05}, {"device": 2, "step_seconds": 0.5},
        {"device": 2, "latency_seconds": 0.035}, {"device": 2, "latency_seconds": 0.08},
    ]  # fmt: skip
    with pytest.raises(UserError, match="--server: 3 is no device; must be 0 to 2"):
        list(trace_sources.seattle_rtt(folder, 3, 0.5))


def test_cellular_4g5g(folder):
    rows = list(trace_sources.cellular_4g5g(folder, 0.5))
    assert rows[2:] == [
        {"device": 0, "download_kbps": 92100.0, "upload_kbps": 92100.0},
        {"device": 1, "download_kbps": 500000.0, "upload_kbps": 500000.0},
    ]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_command_writes_a_table_that_a_plan_runs_on(folder, source, suffix, capsys):
    path = folder / f"table.{suffix}"
    assert run_app(["trace", source, str(folder), "-o", str(path), *SOURCES[source]]) == 0
    assert " devices, " in capsys.readouterr().out
    words = ["algorithm.name=fedbuff", "stop.arrivals=30", "delays.kind=trace", f"delays.path={path}"]
    assert len(schedule(load(None, words)).client) == 30
    if suffix == "csv":
        with path.open() as file:
            assert next(csv.reader(file))[0] == "device"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["fedscale100", "nowhere", "-o", "a.csv"],
            "name the folder that holds fedscale100_availability.json",
        ),
        (["fedscale100", ".", "-o", "a.txt"], "-o: a.txt must end in .csv or .parquet"),
        (["fedscale100", ".", "-o", "no/a.csv"], "-o: the folder no does not exist"),
        (["fedscale100", ".", "-o", "a.csv", "--batch-size", "0"], "'--batch-size'"),
        (["flash", ".", "-o", "a.csv", "--workload", "x"], "--workload: 'x' is unknown"),
        (["seattle_rtt", ".", "-o", "a.csv"], "missing option '--step-seconds'"),
        (["seattle_rtt", ".", "-o", "a.csv", "--step-seconds", "-1"], "'--step-seconds'"),
    ],
)
def test_bad_words_are_one_line_and_leave_nothing(folder, monkeypatch, capsys, words, says):
    monkeypatch.chdir(folder)
    assert run_app(["trace", *words]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert says in line
    assert not (folder / "a.csv").exists()


@pytest.mark.parametrize("name", ["fedscale100_availability.json", "seattle_rtt.npz", "cellular_4g5g_throughput.csv",
                                  "flash_network_speed.json", "fedscale100_capacity.csv"])  # fmt: skip
@pytest.mark.parametrize("content", [b"{}", b"[1]", b'{"1": 2}', b"client_id,radio_type\n1,6G\n"])
def test_a_damaged_source_is_one_line(folder, name, content, capsys):
    (folder / name).write_bytes(content)
    source = name.partition("_")[0]
    source = next(known for known in SOURCES if known.startswith(source))
    assert run_app(["trace", source, str(folder), "-o", str(folder / "a.csv"), *SOURCES[source]]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1


@pytest.mark.skipif(not REAL_FILES.is_dir(), reason="FEDREVIVE_TEST_TRACES names no folder")
@pytest.mark.parametrize(
    ("source", "devices", "windows"),
    [("fedscale100", 100, 100), ("flash", 100, 0), ("seattle_rtt", 98, 0), ("cellular_4g5g", 2, 0)],
)
def test_the_real_files(source, devices, windows, tmp_path):
    path = tmp_path / "trace.parquet"
    assert run_app(["trace", source, str(REAL_FILES), "-o", str(path), *SOURCES[source]]) == 0
    found = read_trace(path)
    assert found.devices == devices
    assert sum(each is not None for each in found.windows) == windows


@pytest.mark.parametrize("verb", [["run"], ["compare", "--algorithms", "fedbuff,fedasync", "--seeds", "0"]])
def test_a_malformed_table_is_said_before_anything_is_made(tmp_path, monkeypatch, capsys, verb):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.csv").write_text("device,step_seconds\n1,0.5\n2,-1\n")
    words = ["digits", "delays.kind=trace", "delays.path=bad.csv", "--output", "out"]
    assert run_app([*verb, *words]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: delays.path: step_seconds: -1; must be empty or a number >= 0")
    assert line.endswith("(line 3 of bad.csv)\n")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.csv"]

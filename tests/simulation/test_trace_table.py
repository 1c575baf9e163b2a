"""The table of devices: what is read from it, and where it is wrong."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedrevive.settings.errors import UserError
from fedrevive.settings.loading import load
from fedrevive.simulation.trace_table import load_trace, read_trace

HEADER = (
    "device,step_seconds,download_kbps,upload_kbps,latency_seconds,"
    "available_from_seconds,available_until_seconds,period_seconds\n"
)
GOOD = HEADER + "7,0.5,1000,,,0,10,100\n3,0.25,,,0.1,,,\n7,1.5,,500,,20,30,100\n3,,2000,,,,,\n"


@pytest.fixture
def table(tmp_path):
    def write(text):
        path = tmp_path / "trace.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def observed(found):
    return {
        name: [
            series.values[first : first + count].tolist()
            for first, count in zip(series.first, series.counts, strict=True)
        ]
        for name, series in found.series.items()
    }


def test_devices_in_order_of_their_numbers_with_what_was_observed_of_each(table):
    found = read_trace(table(GOOD))
    assert found.devices == 2  # 3, then 7
    assert observed(found) == {
        "step_seconds": [[0.25], [0.5, 1.5]],
        "download_kbps": [[2000.0], [1000.0]],
        "upload_kbps": [[], [500.0]],
        "latency_seconds": [[0.1], []],
    }
    assert found.windows[0] is None
    assert found.windows[1].start.tolist() == [0, 20]
    assert found.windows[1].end.tolist() == [10, 30]
    assert found.windows[1].period == 100


def test_parquet_says_the_same(table, tmp_path):
    expected = read_trace(table(GOOD))
    nan = float("nan")
    columns = {
        "device": pa.array([7, 3, 7, 3], pa.int16()),
        "step_seconds": [0.5, 0.25, 1.5, None],
        "download_kbps": pa.array([1000, None, None, 2000], pa.int64()),
        "upload_kbps": [None, None, 500.0, None],
        "latency_seconds": [nan, 0.1, None, nan],
        "available_from_seconds": [0.0, None, 20.0, None],
        "available_until_seconds": [10.0, None, 30.0, None],
        "period_seconds": [100.0, None, 100.0, None],
    }
    pq.write_table(pa.table(columns), tmp_path / "trace.parquet")
    found = read_trace(tmp_path / "trace.parquet")
    assert observed(found) == observed(expected)
    np.testing.assert_equal(found.windows, expected.windows)


def test_columns_may_be_left_out_and_stand_in_any_order(table):
    assert observed(read_trace(table("step_seconds,device\n2,1\n\n")))["step_seconds"] == [[2.0]]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "column device is missing"),
        ("device,step_seconds\n", None, "no rows"),
        ("device,speed\n1,2\n", 1, "'speed': unknown column"),
        ("device,step_second\n1,2\n", 1, "did you mean 'step_seconds'?"),
        ("device,device,step_seconds\n1,1,2\n", 1, "column device stands there twice"),
        ("device,step_seconds\n1,0.5\n2,fast\n", 3, "step_seconds: 'fast' is not a finite number"),
        ("device,step_seconds\n1,0.5\n\n2,nan\n", 4, "step_seconds: 'nan' is not a finite number"),
        ("device,step_seconds\n1,inf\n", 2, "step_seconds: 'inf' is not a finite number"),
        ("device,step_seconds\n1,0.5\n2\n", 3, "1 cells, the header has 2"),
        ("device,step_seconds\n1,0.5,7\n", 2, "3 cells, the header has 2"),
        ('device,step_seconds\n1,0.5\n2,"0.5\n', 4, "not CSV"),
        ("device,step_seconds\n1.5,0.5\n", 2, "device: 1.5; must be an integer >= 0"),
        ("device,step_seconds\n-1,0.5\n", 2, "device: -1; must be"),
        ("device,step_seconds\n,0.5\n", 2, "device: empty; must be"),
        ("device,step_seconds\n1,0.5\n1,-0.5\n", 3, "step_seconds: -0.5; must be empty or a number >= 0"),
        ("device,step_seconds\n1,1e10\n", 2, "at most 1e+09"),
        ("device,step_seconds,download_kbps\n1,1,0\n", 2, "download_kbps: 0; must be empty or a number > 0"),
        ("device,step_seconds,download_kbps\n1,1,\n2,,\n", 3, "nothing is observed"),
        ("device,step_seconds,download_kbps\n1,1,\n2,,5\n", 3, "device 2 has no step_seconds"),
        (HEADER + "1,1,,,,0,5,\n", 2, "a window needs all of"),
        (HEADER + "1,1,,,,5,5,9\n", 2, "available_until_seconds: 5; must be after"),
        (HEADER + "1,1,,,,5,10,9\n", 2, "available_until_seconds: 10; must be at most period_seconds"),
        (HEADER + "1,1,,,,5,8,9\n2,1,,,,0,5,9\n1,,,,,0,5,9\n", 4, "before the end of the device's window above"),
        (HEADER + "1,1,,,,0,4,9\n1,,,,,5,8,10\n", 3, "period_seconds: 10, but 9 in the device's first window"),
    ],
)  # fmt: skip
def test_a_malformed_table_gets_its_line(table, text, line, says):
    with pytest.raises(UserError) as caught:
        read_trace(table(text))
    message = str(caught.value)
    assert message.startswith("delays.path: ")
    assert says in message
    assert "\n" not in message
    assert line is None or f"line {line} of " in message
    assert caught.value.exit_code == 2


def test_a_malformed_parquet_file_gets_its_row(tmp_path):
    path = tmp_path / "trace.parquet"
    pq.write_table(pa.table({"device": [1, 2], "step_seconds": [0.5, -1.0]}), path)
    with pytest.raises(UserError, match=r"step_seconds: -1; must be .* \(row 2 of "):
        read_trace(path)
    pq.write_table(pa.table({"device": [1], "step_seconds": ["fast"]}), path)
    with pytest.raises(UserError, match="column step_seconds holds string; must hold numbers"):
        read_trace(path)
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(UserError, match="not a Parquet file"):
        read_trace(path)


def test_not_utf8(tmp_path):
    (tmp_path / "trace.csv").write_bytes(b"device,step_seconds\n1,\xff\n")
    with pytest.raises(UserError, match="not CSV in UTF-8"):
        read_trace(tmp_path / "trace.csv")


def test_a_configuration_means_the_bytes_of_its_table(table):
    path = table(GOOD)
    words = ["stop.arrivals=5", "delays.kind=trace", f"delays.path={path}"]
    config = load(None, words)
    assert config.delays.sha256 == hashlib.sha256(GOOD.encode()).hexdigest()
    assert load(None, [*words, f"delays.sha256={config.delays.sha256}"]) == config
    load_trace(config.delays)
    path.write_text(GOOD.replace("0.25", "0.35"))
    assert load(None, words) != config
    for call in (lambda: load(None, [*words, f"delays.sha256={config.delays.sha256}"]),
                 lambda: load_trace(config.delays)):  # fmt: skip
        with pytest.raises(UserError, match=r"delays\.sha256: .* restore the table"):
            call()


def test_a_missing_table_is_said_before_anything_starts(tmp_path):
    for path, says in ((tmp_path / "no.csv", "does not exist"), (tmp_path, "is no file")):
        with pytest.raises(UserError, match=f"delays.path: .*{says}"):
            load(None, ["stop.arrivals=5", "delays.kind=trace", f"delays.path={path}"])

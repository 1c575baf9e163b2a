import http.server
import os
import threading

import numpy as np
import pytest

from fedrevive.settings.errors import UserError
from fedrevive.settings.task import FashionMnistTask
from fedrevive.tasks import load_task, task_info
from fedrevive.tasks.torchvision_files import average_pool

REAL_FILES = os.environ.get("FEDREVIVE_TEST_DATA")
TRAIN, TEST = 200, 40


def write_idx(path, array):
    """The on-disk format: 0, 0, type 8, number of dimensions, big-endian sizes, then the bytes."""
    sizes = b"".join(int(size).to_bytes(4, "big") for size in array.shape)
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes())


@pytest.fixture
def folder(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.Generator(np.random.Philox(1))
    for part, count in (("train", TRAIN), ("t10k", TEST)):
        write_idx(raw / f"{part}-images-idx3-ubyte", rng.integers(256, size=(count, 28, 28)))
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)
    return tmp_path


def task(folder, **options):
    return FashionMnistTask(clients=5, samples_per_client=20, data_dir=str(folder), **options)


def failure(folder, **options):
    with pytest.raises(UserError) as caught:
        load_task(task(folder), seed=0, **options)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(("task.data_dir: ", "--download: "))
    return line, caught.value.exit_code


@pytest.mark.parametrize("side", [14, 28])
def test_reads_torchvisions_files(folder, side):
    data = load_task(task(folder, image_size=side), seed=0)
    assert [len(split) for split in (data.train, data.validation, data.kd, data.test)] == [150, 30, 20, 40]
    for split in (data.train, data.validation, data.kd, data.test):
        assert split.inputs.shape == (len(split), 1, side, side)
        assert split.inputs.dtype == np.uint8
        assert split.inputs.flags.c_contiguous
    assert data.test.labels.tolist() == [index % 10 for index in range(TEST)]
    assert data.client_indices.shape == (5, 20)
    stored = (folder / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte").read_bytes()[16:]
    official = np.frombuffer(stored, np.uint8).reshape(TEST, 28, 28)
    expected = official if side == 28 else average_pool(official)
    np.testing.assert_array_equal(data.test.inputs[:, 0], expected)


def test_average_pool_rounds_halves_up():
    image = np.array([[[0, 1, 255, 255], [0, 0, 255, 255], [1, 1, 2, 2], [0, 0, 1, 2]]], np.uint8)
    np.testing.assert_array_equal(average_pool(image), [[[0, 255], [1, 2]]])


@pytest.mark.parametrize("gone", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_missing_file_names_the_setting_the_folder_and_the_remedy(folder, gone):
    (folder / "FashionMNIST" / "raw" / gone).unlink()
    line, code = failure(folder)
    assert code == 2
    for part in (gone, "--download", "torchvision.datasets.FashionMNIST(", "looked in"):
        assert part in line


def test_a_missing_folder_is_not_created(tmp_path):
    _, code = failure(tmp_path / "nowhere")
    assert code == 2
    assert not (tmp_path / "nowhere").exists()


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def corrupt_magic(path):
    path.write_bytes(b"\x1f\x8b" + path.read_bytes()[2:])


def empty(path):
    path.write_bytes(b"")


def no_samples(path):
    write_idx(path, np.zeros((0, 28, 28) if "images" in path.name else (0,)))


def trailing(path):
    path.write_bytes(path.read_bytes() + b"x")


@pytest.mark.parametrize("damage", [truncate, corrupt_magic, empty, no_samples, trailing])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_corrupt_file_is_named(folder, name, damage):
    if damage is truncate and "labels" in name:
        damage = empty
    damage(folder / "FashionMNIST" / "raw" / name)
    line, code = failure(folder)
    assert code == 3
    assert name in line


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t10k-images-idx3-ubyte", np.zeros((TEST, 32, 32))),
        ("train-labels-idx1-ubyte", np.zeros(TRAIN - 1)),
        ("train-labels-idx1-ubyte", np.full(TRAIN, 10)),
    ],
    ids=["size", "count", "label"],
)
def test_well_formed_files_of_something_else_are_refused(folder, name, content):
    write_idx(folder / "FashionMNIST" / "raw" / name, content)
    line, code = failure(folder)
    assert code == 3
    assert name in line


def test_download_leaves_complete_files_alone(folder, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    before = {path: path.stat().st_mtime_ns for path in (folder / "FashionMNIST" / "raw").iterdir()}
    load_task(task(folder), seed=0, download=True)
    assert {path: path.stat().st_mtime_ns for path in (folder / "FashionMNIST" / "raw").iterdir()} == before


def test_a_download_without_network_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nothing listens on the discard port
    line, code = failure(tmp_path, download=True)
    assert code == 5
    assert line.startswith("--download: ")


def test_a_download_that_brings_the_wrong_bytes_is_one_line(tmp_path, monkeypatch):
    class Wrong(http.server.BaseHTTPRequestHandler):
        def answer(self):
            self.send_response(200)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(b"<html>sign in to this network</html>")

        do_GET = do_HEAD = answer  # noqa: N815 (the names http.server calls)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Wrong) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
        line, code = failure(tmp_path, download=True)
        server.shutdown()
    assert code == 5
    assert "could not be fetched" in line


@pytest.mark.skipif(REAL_FILES is None, reason="FEDREVIVE_TEST_DATA names no folder")
@pytest.mark.parametrize("side", [14, 28])
def test_the_real_files(side):
    settings = task(REAL_FILES, image_size=side)
    data = load_task(settings, seed=0)
    assert [len(split) for split in (data.train, data.validation, data.kd, data.test)] == [
        45000,
        9000,
        6000,
        10000,
    ]
    pixels = data.train.inputs / 255.0
    info = task_info(settings)
    assert info.mean == pytest.approx((pixels.mean(),), abs=1e-4)
    assert info.std == pytest.approx((pixels.std(),), abs=1e-4)
    assert np.bincount(data.test.labels).tolist() == [1000] * 10

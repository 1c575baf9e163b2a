import gzip
import lzma
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from vision_files import MNIST_TRAIN, MNIST_WRITERS, extended, idx, mnist_parts, write_mnist_writers

from fedrevive.settings.errors import UserError
from fedrevive.settings.task import DirichletPartition, MnistWritersTask
from fedrevive.tasks import check_data, load_task, task_info
from fedrevive.tasks.torchvision_files import average_pool

REAL_FILES = Path(os.environ.get("FEDREVIVE_TEST_DATA", "nowhere"))
LOAD = partial(load_task, seed=0)


@pytest.fixture
def folder(tmp_path):
    write_mnist_writers(tmp_path)
    return tmp_path


def task(folder, **options):
    return MnistWritersTask(**{"clients": MNIST_WRITERS, "data_dir": str(folder), **options})


def failure(folder, call=LOAD, **options):
    with pytest.raises(UserError) as caught:
        call(task(folder, **options))
    line = str(caught.value)
    assert "\n" not in line
    return line, caught.value.exit_code


@pytest.mark.parametrize("side", [14, 28])
def test_every_client_holds_the_digits_of_one_writer(folder, side):
    data = load_task(task(folder, image_size=side), seed=0)
    assert [len(split) for split in (data.train, data.validation, data.kd, data.test)] == [180, 36, 24, 60]
    (_, official, _, rows), (_, test, test_labels, _) = mnist_parts()
    writer_of = {image.astype(np.uint8).tobytes(): row[2] for image, row in zip(official, rows, strict=True)}
    expected = test.astype(np.uint8) if side == 28 else average_pool(test.astype(np.uint8))
    np.testing.assert_array_equal(data.test.inputs[:, 0], expected)
    np.testing.assert_array_equal(data.test.labels, test_labels)
    assert data.info == task_info(task(folder, image_size=side))
    held = [row[row >= 0] for row in data.client_indices]
    assert sorted(np.concatenate(held).tolist()) == list(range(180))
    if side == 28:
        writers = [{writer_of[data.train.inputs[index].tobytes()] for index in indices} for indices in held]
        assert sorted(writer for (writer,) in writers) == list(range(100, 112))


def test_the_seed_moves_who_is_which_client_and_nothing_else(folder):
    first, other = (load_task(task(folder), seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(first.train.inputs, other.train.inputs)
    assert (first.client_indices[:, :5] != other.client_indices[:, :5]).any()


def test_other_partitions_of_the_same_digits(folder):
    data = load_task(task(folder, partition=DirichletPartition(), samples_per_client=30), seed=0)
    assert data.client_indices.shape == (MNIST_WRITERS, 30)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress], ids=["gz", "xz"])
def test_packed_files_and_the_compact_labels_lie_in_one_folder(folder, tmp_path_factory, pack):
    flat = tmp_path_factory.mktemp("flat")
    for path in (folder / "MNIST" / "raw").iterdir():
        (flat / f"{path.name}.{'gz' if pack is gzip.compress else 'xz'}").write_bytes(pack(path.read_bytes()))
    rows = {("train" if part == "train" else "test"): rows for part, *_, rows in mnist_parts()}
    np.savez_compressed(flat / "qmnist_writer_labels.npz", **rows)
    one, other = load_task(task(folder), seed=0), load_task(task(flat), seed=0)
    np.testing.assert_array_equal(one.train.inputs, other.train.inputs)
    np.testing.assert_array_equal(one.client_indices, other.client_indices)


def test_more_clients_than_writers(folder):
    line, code = failure(folder, clients=13)
    assert code == 2
    assert line.startswith("task.clients: 13 is more than the 12 people")


@pytest.mark.parametrize(
    ("gone", "call"),
    [
        ("MNIST/raw/t10k-labels-idx1-ubyte", "MNIST(root, "),
        ("QMNIST/raw/qmnist-test-labels-idx2-int", 'what="test"'),
    ],
)
@pytest.mark.parametrize("how", [check_data, LOAD], ids=["check", "load"])
def test_a_missing_file_names_the_remedy(folder, gone, call, how):
    (folder / gone).unlink()
    line, code = failure(folder, how)
    assert code == 2
    for part in (gone.rpartition("/")[2], "--download", "torchvision.datasets.", call):
        assert part in line


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("QMNIST/raw/qmnist-train-labels-idx2-int", idx(extended(np.arange(MNIST_TRAIN) % 9, 1), 12)),
        ("QMNIST/raw/qmnist-train-labels-idx2-int", idx(extended(np.arange(MNIST_TRAIN - 1) % 10, 1), 12)),
        ("QMNIST/raw/qmnist-train-labels-idx2-int", idx(np.arange(MNIST_TRAIN) % 10)),
        ("MNIST/raw/train-labels-idx1-ubyte", idx(np.full(MNIST_TRAIN, 10))),
        ("MNIST/raw/train-labels-idx1-ubyte", idx(np.arange(MNIST_TRAIN - 1) % 10)),
        ("MNIST/raw/train-images-idx3-ubyte", idx(np.zeros((MNIST_TRAIN, 32, 32)))),
        ("MNIST/raw/train-images-idx3-ubyte", idx(np.zeros((MNIST_TRAIN, 28, 28)))[:-1]),
    ],
    ids=["other digits", "fewer", "no writers", "label", "count", "size", "truncated"],
)
def test_files_of_something_else_are_refused(folder, name, content):
    (folder / name).write_bytes(content)
    line, code = failure(folder)
    assert code == 3
    assert line.startswith("task.data_dir: ")


@pytest.mark.parametrize("suffix", ["gz", "xz"])
@pytest.mark.parametrize("content", [b"", b"no archive", gzip.compress(idx(np.arange(MNIST_TRAIN)))[:-9]])
def test_a_broken_archive_is_refused(folder, suffix, content):
    path = folder / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    path.unlink()
    path.with_name(f"{path.name}.{suffix}").write_bytes(content)
    assert failure(folder)[1] == 3


def test_a_download_without_network_is_one_line(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens on the discard port
    line, code = failure(tmp_path, partial(LOAD, download=True))
    assert code == 5
    assert line.startswith("--download: MNIST could not be fetched")


@pytest.mark.skipif(
    not (REAL_FILES / "MNIST").is_dir(),
    reason="FEDREVIVE_TEST_DATA names no folder with MNIST and its writers",
)
@pytest.mark.parametrize("side", [14, 28])
def test_the_real_files(side):
    settings = task(REAL_FILES, clients=539, image_size=side)
    data = load_task(settings, seed=0)
    assert [len(split) for split in (data.train, data.validation, data.kd, data.test)] == [
        45000,
        9000,
        6000,
        10000,
    ]
    assert (data.client_indices >= 0).sum() == 45000
    pixels = data.train.inputs / 255.0
    assert data.info.mean == pytest.approx((pixels.mean(),), abs=1e-4)
    assert data.info.std == pytest.approx((pixels.std(),), abs=1e-4)

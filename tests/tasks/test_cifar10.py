import hashlib
import http.server
import os
import pickle  # noqa: TID251  the tests write what torchvision reads
import tarfile
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from fedrevive.settings.errors import UserError
from fedrevive.settings.task import Cifar10Task
from fedrevive.tasks import check_data, cifar10, load_task, task_info
from fedrevive.tasks.torchvision_files import average_pool

REAL_FILES = Path(os.environ.get("FEDREVIVE_TEST_DATA", "nowhere"))
BATCH, TEST = 40, 30
NAMES = tuple(cifar10.FILES)


def write_batch(path, count, rng):
    """A batch as published: a protocol-2 pickle of a dict, one row of 3,072 bytes per image, channel by channel."""
    content = {
        "batch_label": path.name,
        "labels": [int(label) for label in np.arange(count) % 10],
        "data": rng.integers(256, size=(count, 3072)).astype(np.uint8),
        "filenames": [f"image_{index}.png" for index in range(count)],
    }
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Small files, and their sizes and digests in place of the published ones."""
    batches = tmp_path / "cifar-10-batches-py"
    batches.mkdir()
    rng = np.random.Generator(np.random.Philox(1))
    for name in NAMES[:-1]:
        write_batch(batches / name, TEST if name == "test_batch" else BATCH, rng)
    names = [f"class {label}" for label in range(10)]
    meta = {"label_names": names, "num_cases_per_batch": BATCH, "num_vis": 3072}
    (batches / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    contents = {name: (batches / name).read_bytes() for name in NAMES}
    digests = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(cifar10, "FILES", {name: (len(contents[name]), digests[name]) for name in NAMES})
    monkeypatch.setattr(CIFAR10, "train_list", [[name, digests[name]] for name in NAMES[:5]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", digests["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": digests["batches.meta"]})
    return tmp_path


def task(folder, **options):
    return Cifar10Task(clients=5, samples_per_client=20, data_dir=str(folder), **options)


LOAD = partial(load_task, seed=0)


def failure(folder, call=LOAD):
    with pytest.raises(UserError) as caught:
        call(task(folder))
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(("task.data_dir: ", "--download: "))
    return line, caught.value.exit_code


def stored(folder, names):
    """Images [n, 3, 32, 32] as they lie in the files."""
    rows = [pickle.loads((folder / "cifar-10-batches-py" / name).read_bytes())["data"] for name in names]  # noqa: S301
    return np.concatenate(rows).reshape(-1, 3, 32, 32)


def test_the_published_digests_are_those_torchvision_reads_with():
    known = dict(CIFAR10.train_list + CIFAR10.test_list) | {"batches.meta": CIFAR10.meta["md5"]}
    assert {name: digest for name, (_, digest) in cifar10.FILES.items()} == known


@pytest.mark.parametrize("side", [16, 32])
def test_reads_torchvisions_files(folder, side):
    data = load_task(task(folder, image_size=side), seed=0)
    assert [len(split) for split in (data.train, data.validation, data.kd, data.test)] == [150, 30, 20, 30]
    for split in (data.train, data.validation, data.kd, data.test):
        assert split.inputs.shape == (len(split), 3, side, side)
        assert split.inputs.dtype == np.uint8
        assert split.labels.dtype == np.int64
        assert split.inputs.flags.c_contiguous
    assert data.info == task_info(task(folder, image_size=side))
    assert data.client_indices.shape == (5, 20)
    assert data.test.labels.tolist() == [index % 10 for index in range(TEST)]
    official = [stored(folder, names) for names in (NAMES[:5], ["test_batch"])]
    train, test = official if side == 32 else map(average_pool, official)
    np.testing.assert_array_equal(data.test.inputs, test)
    parts = np.concatenate([data.train.inputs, data.validation.inputs, data.kd.inputs])
    assert sorted(image.tobytes() for image in parts) == sorted(image.tobytes() for image in train)


@pytest.mark.parametrize("gone", ["data_batch_1", "test_batch", "batches.meta"])
@pytest.mark.parametrize("call", [check_data, LOAD], ids=["check", "load"])
def test_a_missing_file_names_the_setting_the_folder_and_the_remedy(folder, gone, call):
    (folder / "cifar-10-batches-py" / gone).unlink()
    line, code = failure(folder, call)
    assert code == 2
    for part in (gone, "--download", "torchvision.datasets.CIFAR10(", "looked in"):
        assert part in line


def test_a_missing_folder_is_not_created(tmp_path):
    _, code = failure(tmp_path / "nowhere")
    assert code == 2
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", ["data_batch_4", "test_batch", "batches.meta"])
@pytest.mark.parametrize("call", [check_data, LOAD], ids=["check", "load"])
def test_a_file_of_another_size_is_corrupt(folder, name, call):
    path = folder / "cifar-10-batches-py" / name
    path.write_bytes(path.read_bytes() + b"x")
    line, code = failure(folder, call)
    assert code == 3
    assert name in line


@pytest.mark.parametrize("name", NAMES)
def test_one_wrong_byte_is_corrupt(folder, name):
    path = folder / "cifar-10-batches-py" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    line, code = failure(folder)
    assert code == 3
    assert f"{name} is corrupt (MD5 " in line


class Trap:
    """Unpickling it makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("sprung",)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_planted_pickle_is_refused_before_it_is_unpickled(folder, name, monkeypatch):
    monkeypatch.chdir(folder)
    path = folder / "cifar-10-batches-py" / name
    path.write_bytes(pickle.dumps(Trap()).ljust(path.stat().st_size, b"."))
    line, code = failure(folder)
    assert code == 3
    assert name in line
    assert not (folder / "sprung").exists()
    pickle.loads(path.read_bytes())  # noqa: S301 (it would have worked)
    assert (folder / "sprung").is_dir()


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens on the discard port


@pytest.mark.usefixtures("offline")
def test_download_leaves_complete_files_alone(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    load_task(task(folder), seed=0, download=True)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.usefixtures("offline")
def test_a_download_without_network_is_one_line(tmp_path):
    line, code = failure(tmp_path, partial(LOAD, download=True))
    assert code == 5
    assert line.startswith("--download: CIFAR-10 could not be fetched")


@pytest.fixture
def archive(monkeypatch, tmp_path_factory):
    """What the data set's site serves: a path the test fills."""
    served = tmp_path_factory.mktemp("site") / CIFAR10.filename
    handler = partial(QuietServer, directory=str(served.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/{served.name}")
        yield served
        server.shutdown()


class QuietServer(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.mark.parametrize("lost", ["data_batch_2", "batches.meta"])
@pytest.mark.parametrize("how", [Path.unlink, lambda path: path.write_bytes(b"")], ids=["gone", "corrupt"])
def test_download_replaces_what_is_lost(folder, archive, monkeypatch, lost, how):
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder / "cifar-10-batches-py", "cifar-10-batches-py")
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    how(folder / "cifar-10-batches-py" / lost)
    data = load_task(task(folder), seed=0, download=True)
    assert len(data.train) == 150


def test_a_download_that_brings_the_wrong_bytes_is_one_line(folder, archive):
    archive.write_bytes(b"<html>sign in to this network</html>")
    (folder / "cifar-10-batches-py" / "data_batch_1").unlink()
    line, code = failure(folder, partial(LOAD, download=True))
    assert code == 5
    assert "could not be fetched" in line


@pytest.mark.skipif(
    not (REAL_FILES / cifar10.FOLDER).is_dir(), reason="FEDREVIVE_TEST_DATA names no folder with CIFAR-10"
)
@pytest.mark.parametrize("side", [16, 32])
def test_the_real_files(side):
    data = load_task(task(REAL_FILES, image_size=side), seed=0)
    assert [len(split) for split in (data.train, data.validation, data.kd, data.test)] == [
        37500,
        7500,
        5000,
        10000,
    ]
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    pixels = data.train.inputs.astype(np.float32) / 255
    assert data.info.mean == pytest.approx(pixels.mean((0, 2, 3)), abs=1e-3 if side == 32 else 1e-4)
    # The published deviations of 32x32 are means over images, not the data set's own.
    std = pixels.std((2, 3)).mean(0) if side == 32 else pixels.std((0, 2, 3))
    assert data.info.std == pytest.approx(std, abs=2e-3 if side == 32 else 1e-4)

import os
import pickle  # noqa: TID251  the tests write what torchvision reads
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR100
from vision_files import write_cifar100

from fedrevive.settings.errors import UserError
from fedrevive.settings.task import Cifar100Task
from fedrevive.tasks import check_data, cifar100, load_task, task_info

REAL_FILES = Path(os.environ.get("FEDREVIVE_TEST_DATA", "nowhere"))
LOAD = partial(load_task, seed=0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_cifar100(tmp_path, monkeypatch)
    return tmp_path


def task(folder):
    return Cifar100Task(clients=5, samples_per_client=20, data_dir=str(folder))


def failure(folder, call=LOAD):
    with pytest.raises(UserError) as caught:
        call(task(folder))
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(("task.data_dir: ", "--download: "))
    return line, caught.value.exit_code


def test_the_published_digests_are_those_torchvision_reads_with():
    known = dict(CIFAR100.train_list + CIFAR100.test_list) | {"meta": CIFAR100.meta["md5"]}
    assert {name: digest for name, (_, digest) in cifar100.FILES.items()} == known


def test_reads_torchvisions_files_with_fine_labels(folder):
    data = load_task(task(folder), seed=0)
    assert [len(split) for split in (data.train, data.validation, data.kd, data.test)] == [300, 60, 40, 100]
    assert data.info == task_info(task(folder))
    assert data.info.classes == 100
    assert data.test.labels.tolist() == list(range(100))
    stored = pickle.loads((folder / "cifar-100-python" / "test").read_bytes())["data"]  # noqa: S301
    np.testing.assert_array_equal(data.test.inputs, stored.reshape(-1, 3, 32, 32))
    assert data.client_indices.shape == (5, 20)


@pytest.mark.parametrize("gone", ["train", "meta"])
@pytest.mark.parametrize("call", [check_data, LOAD], ids=["check", "load"])
def test_a_missing_file_names_the_remedy(folder, gone, call):
    (folder / "cifar-100-python" / gone).unlink()
    line, code = failure(folder, call)
    assert code == 2
    for part in (f"lacks {gone} of CIFAR-100", "--download", "torchvision.datasets.CIFAR100(", "looked in"):
        assert part in line


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_one_wrong_byte_is_corrupt(folder, name):
    path = folder / "cifar-100-python" / name
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


def test_a_planted_pickle_is_refused_before_it_is_unpickled(folder, monkeypatch):
    monkeypatch.chdir(folder)
    path = folder / "cifar-100-python" / "train"
    path.write_bytes(pickle.dumps(Trap()).ljust(path.stat().st_size, b"."))
    assert failure(folder)[1] == 3
    assert not (folder / "sprung").exists()


def test_a_download_without_network_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens on the discard port
    line, code = failure(tmp_path, partial(LOAD, download=True))
    assert code == 5
    assert line.startswith("--download: CIFAR-100 could not be fetched")


@pytest.mark.skipif(
    not (REAL_FILES / cifar100.FOLDER).is_dir(), reason="FEDREVIVE_TEST_DATA names no folder with CIFAR-100"
)
def test_the_real_files():
    data = load_task(task(REAL_FILES), seed=0)
    assert len(data.train) == 37500
    assert np.bincount(data.test.labels).tolist() == [100] * 100
    pixels = data.train.inputs.astype(np.float32) / 255
    assert data.info.mean == pytest.approx(pixels.mean((0, 2, 3)), abs=2e-3)
    assert data.info.std == pytest.approx(pixels.std((0, 2, 3)), abs=2e-3)

import json
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from vision_files import FEMNIST_WRITERS, femnist_samples, png, write_femnist_leaf, write_femnist_parquet

from fedrevive.settings.errors import UserError
from fedrevive.settings.task import FemnistTask
from fedrevive.tasks import check_data, load_task

LOAD = partial(load_task, seed=0)


@pytest.fixture(params=[write_femnist_leaf, write_femnist_parquet], ids=["leaf", "parquet"])
def folder(request, tmp_path):
    request.param(tmp_path)
    return tmp_path


def task(folder, **options):
    return FemnistTask(**{"clients": FEMNIST_WRITERS, "data_dir": str(folder), **options})


def failure(folder, call=LOAD, **options):
    with pytest.raises(UserError) as caught:
        call(task(folder, **options))
    line = str(caught.value)
    assert "\n" not in line
    return line, caught.value.exit_code


def test_every_client_is_a_writer(folder):
    data = load_task(task(folder), seed=0)
    total = sum(len(labels) for _, _, labels in femnist_samples())
    splits = (data.train, data.validation, data.test, data.kd)
    assert sum(map(len, splits)) == total
    np.testing.assert_allclose([len(split) / total for split in splits], [0.6, 0.15, 0.15, 0.1], atol=0.03)
    label_of = {
        image.tobytes(): label
        for _, images, labels in femnist_samples()
        for image, label in zip(images, labels, strict=True)
    }
    for split in splits:
        assert split.inputs.shape[1:] == (1, 28, 28)
        assert [label_of[image.tobytes()] for image in split.inputs] == split.labels.tolist()
    writers = [set(data.train.inputs[row[row >= 0], 0, 0, 0].tolist()) for row in data.client_indices]
    assert sorted(writer for (writer,) in writers) == list(range(FEMNIST_WRITERS))


def test_both_forms_hold_the_same_samples(tmp_path):
    found = []
    for number, write in enumerate((write_femnist_leaf, write_femnist_parquet)):
        root = tmp_path / str(number)
        write(root)
        data = load_task(task(root), seed=0)
        found.append(sorted(image.tobytes() for image in data.train.inputs))
    assert found[0] == found[-1]


def test_fewer_clients_are_fewer_writers_the_same_for_every_seed(folder):
    first, other = (load_task(task(folder, clients=3), seed=seed) for seed in (0, 1))
    assert len(np.unique(first.train.inputs[:, 0, 0, 0])) == 3
    for one, two in ((first.train, other.train), (first.test, other.test)):
        np.testing.assert_array_equal(one.inputs, two.inputs)


def test_a_large_writer_gives_samples_per_client_at_most(folder):
    data = load_task(task(folder, samples_per_client=9), seed=0)
    assert data.client_indices.shape == (FEMNIST_WRITERS, 9)
    assert (data.client_indices >= 0).sum(1).max() == 9
    assert (data.client_indices >= 0).sum(1).min() < 9


def test_more_clients_than_writers(folder):
    line, code = failure(folder, clients=9)
    assert code == 2
    assert line.startswith("task.clients: 9 is more than the 8 writers")


@pytest.mark.parametrize("call", [check_data, LOAD], ids=["check", "load"])
def test_no_files_says_how_to_get_them(tmp_path, call):
    line, code = failure(tmp_path, call)
    assert code == 2
    for part in ("task.data_dir", "preprocess.sh", "flwrlabs/femnist"):
        assert part in line


GOOD = {"users": ["a"], "num_samples": [1], "user_data": {"a": {"x": [[0.5] * 784], "y": [3]}}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"users": None}, "not LEAF's JSON"),
        ({"user_data": {}}, "not LEAF's JSON"),
        ({"num_samples": [2]}, "user a has 1 samples, not 2"),
        ({"user_data": {"a": {"x": [[0.5] * 783], "y": [3]}}}, "784 numbers"),
        ({"user_data": {"a": {"x": [[1.5] * 784], "y": [3]}}}, "784 numbers from 0 to 1"),
        ({"user_data": {"a": {"x": [["a"] * 784], "y": [3]}}}, "784 numbers"),
        ({"user_data": {"a": {"x": [[0.5] * 784], "y": [62]}}}, "a label is no integer from 0 to 61"),
        ({"user_data": {"a": {"x": [[0.5] * 784], "y": ["b"]}}}, "a label is no integer"),
    ],
)
def test_malformed_json_is_refused(tmp_path, change, says):
    (tmp_path / "femnist" / "train").mkdir(parents=True)
    path = tmp_path / "femnist" / "train" / "a.json"
    path.write_text(json.dumps({**GOOD, **change}))
    line, code = failure(tmp_path, clients=1)
    assert code == 3
    assert "a.json is corrupt" in line
    assert says in line


def test_truncated_json_is_refused(tmp_path):
    (tmp_path / "femnist" / "train").mkdir(parents=True)
    (tmp_path / "femnist" / "train" / "a.json").write_text(json.dumps(GOOD)[:-40])
    assert failure(tmp_path)[1] == 3


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"image": {"bytes": b"no picture"}, "writer_id": "a", "character": 1}], "cannot be decoded"),
        ([{"image": {"bytes": png(np.zeros((8, 8), np.uint8))}, "writer_id": "a", "character": 1}], "8x8"),
        (
            [{"image": {"bytes": png(np.zeros((28, 28), np.uint8))}, "writer_id": "a", "character": 62}],
            "label",
        ),
        ([{"picture": 1}], "no table with image, writer_id, character"),
    ],
)
def test_malformed_parquet_is_refused(tmp_path, rows, says):
    (tmp_path / "femnist").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "femnist" / "a.parquet")
    line, code = failure(tmp_path, clients=1)
    assert code == 3
    assert says in line

"""Next characters and words, from LEAF's JSON and from Parquet."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedrevive.settings.errors import UserError
from fedrevive.settings.task import IidPartition, NaturalPartition, NextTokenTask
from fedrevive.tasks import check_data, load_task
from fedrevive.tasks.next_token import in_order

SPEECH = "to be or not to be that is the question "
PEOPLE = {"HAMLET_Prince": 60, "OPHELIA_Daughter": 40, "GHOST_King": 20}


def windows(count, shift=0):
    text = SPEECH * 4
    starts = range(shift, shift + count)
    return [text[at : at + 10] for at in starts], [text[at + 10] for at in starts]


def leaf(path, people=PEOPLE, shift=0):
    data = {name: dict(zip("xy", windows(count, shift), strict=True)) for name, count in people.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"users": list(people), "num_samples": list(people.values()), "user_data": data}
    path.write_text(json.dumps(content))


def task(folder, **fields):
    fields = {"clients": 3, "samples_per_client": 15, "length": 10, "vocabulary": 40} | fields
    return NextTokenTask(data_dir=str(folder), **{"partition": NaturalPartition()} | fields)


def failure(settings):
    with pytest.raises(UserError) as raised:
        load_task(settings, seed=0)
    return str(raised.value), raised.value.exit_code


@pytest.fixture
def shakespeare(tmp_path):
    leaf(tmp_path / "train" / "all_data_niid_0_keep_0_train_9.json")
    leaf(tmp_path / "test" / "all_data_niid_0_keep_0_test_9.json", {"HAMLET_Prince": 12}, shift=100)
    return tmp_path


def text_of(ids, letters):
    return "".join(letters[token] for token in ids if token)


def test_leaf_windows_come_back(shakespeare):
    data = load_task(task(shakespeare), seed=0)
    assert [len(s) for s in (data.train, data.validation, data.kd, data.test)] == [90, 18, 12, 12]
    letters = dict(enumerate("?" * 40))
    inputs, following = windows(12, 100)
    for row, label, text, letter in zip(data.test.inputs, data.test.labels, inputs, following, strict=True):
        letters |= dict(zip(row.tolist(), text, strict=True))
        letters[int(label)] = letter
    # One id for one letter: every window is read back by the letters that all of them agreed on.
    assert [text_of(row, letters) for row in data.test.inputs.tolist()] == inputs
    assert [letters[label] for label in data.test.labels.tolist()] == following
    assert data.test.inputs.dtype == np.int32


def test_a_client_is_a_person(shakespeare):
    data = load_task(task(shakespeare), seed=0)
    held = [set(row[row >= 0].tolist()) for row in data.client_indices]
    assert sorted(map(len, held)) == [15, 15, 15]
    assert len(set.union(*held)) == 45, "nobody holds a sample of another"


def test_parts_follow_each_other_in_time():
    owners = ["b", "a", "b", "b", "a", "b", "c"]
    parts = in_order(owners, (50, 25, 25))
    assert [part.tolist() for part in parts] == [[0, 1, 2, 6], [3, 4], [5]]
    assert [part.tolist() for part in in_order([], (60, 40))] == [[], []]


def test_parquet_gives_the_same_samples(shakespeare, tmp_path):
    table = tmp_path / "table"
    table.mkdir()
    for part in ("train", "test"):
        rows = {"character_id": [], "x": [], "y": []}
        for path in (shakespeare / part).glob("*.json"):
            for name, data in json.loads(path.read_text())["user_data"].items():
                rows["character_id"] += [name] * len(data["x"])
                rows["x"] += data["x"]
                rows["y"] += data["y"]
        pq.write_table(pa.table(rows), table / f"{part}-00000-of-00001.parquet")
    first, second = load_task(task(shakespeare), seed=0), load_task(task(table), seed=0)
    np.testing.assert_array_equal(first.train.inputs, second.train.inputs)
    np.testing.assert_array_equal(first.test.labels, second.test.labels)
    np.testing.assert_array_equal(first.client_indices, second.client_indices)


def test_sentences_are_predicted_word_by_word(tmp_path):
    sentences = ["how do i sort a list", "how do i sort a tuple"] * 20
    rows = {"client_id": ["1", "2"] * 20, "tokens": sentences}
    pq.write_table(pa.table(rows), tmp_path / "stackoverflow.parquet")
    data = load_task(task(tmp_path, unit="word", length=3, vocabulary=12, partition=IidPartition()), seed=0)
    how = int(data.train.inputs[0, 2])
    do, i, sort, a, ending = data.train.labels[:5].tolist()
    assert len({how, do, i, sort, a, ending} - {0, 1}) == 6
    expected = [[0, 0, how], [0, how, do], [how, do, i], [do, i, sort], [i, sort, a]]
    assert data.train.inputs[:5].tolist() == expected
    assert ending != data.train.labels[9], "the next sentence ends with another word"
    assert len(data.test) == 2 * 20, "a fifth of each person's 100 samples"


def test_what_follows_is_never_unknown(shakespeare):
    data = load_task(task(shakespeare, vocabulary=8), seed=0)
    assert set(data.train.labels.tolist()) <= set(range(2, 8))
    assert (data.train.inputs == 1).any()


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "all_data.json is corrupt"),
        ('{"users": ["A"], "num_samples": [1], "user_data": {}}', "all_data.json is corrupt"),
        ('{"users": ["A"], "num_samples": [1], "user_data": {"A": {"x": [7], "y": ["a"]}}}', "is no text"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, content, part):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "all_data.json").write_text(content)
    line, code = failure(task(tmp_path))
    assert code == 3
    assert part in line


def test_a_table_of_other_columns_is_one_line(tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "train.parquet")
    line, code = failure(task(tmp_path))
    assert code == 3
    assert "needs columns character_id or client_id" in line
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    assert failure(task(tmp_path))[1] == 3


def test_an_empty_folder_says_what_belongs_there(tmp_path):
    with pytest.raises(UserError, match=r"holds neither LEAF's train/\*.json nor Parquet") as raised:
        check_data(task(tmp_path))
    assert raised.value.exit_code == 2


def test_too_little_text_is_one_line(tmp_path):
    leaf(tmp_path / "train" / "all.json", {"A": 1})
    line, code = failure(task(tmp_path, clients=1))
    assert code == 2
    assert "leaves no sample for the validation part" in line

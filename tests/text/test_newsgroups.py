"""20 Newsgroups from the folders of the bydate version."""

from __future__ import annotations

import hashlib
import http.server
import os
import shutil
import tarfile
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import _twenty_newsgroups
from sklearn.datasets._base import RemoteFileMetadata

from fedrevive.settings.errors import UserError
from fedrevive.settings.task import IidPartition, NewsgroupsTask
from fedrevive.tasks import check_data, load_task, task_info
from fedrevive.tasks.federated import split_indices
from fedrevive.tasks.newsgroups import GROUPS, PARTS, snippets

REAL_FILES = Path(os.environ.get("FEDREVIVE_TEST_DATA", "nowhere"))


def task(folder, **fields):
    fields = {"clients": 5, "samples_per_client": 8, "length": 12, "vocabulary": 200} | fields
    return NewsgroupsTask(data_dir=str(folder), **fields)


def failure(settings, download=False):
    with pytest.raises(UserError) as raised:
        load_task(settings, seed=0, download=download)
    return str(raised.value), raised.value.exit_code


@pytest.fixture
def folder(newsgroups_dir, tmp_path):
    return Path(shutil.copytree(newsgroups_dir, tmp_path / "news"))


@pytest.fixture(scope="module")
def data(newsgroups_dir):
    return load_task(task(newsgroups_dir), seed=3)


def test_shapes_and_parts(data):
    assert data.info == task_info(task("x"))
    assert (data.info.input_shape, data.info.classes, data.info.vocabulary) == ((12,), 20, 200)
    assert [len(s) for s in (data.train, data.validation, data.kd, data.test)] == [120, 24, 16, 60]
    for split in (data.train, data.validation, data.kd, data.test):
        assert split.inputs.shape == (len(split), 12)
        assert split.inputs.dtype == np.int32
        assert split.inputs.flags.c_contiguous
        assert split.inputs.min() >= 0
        assert split.inputs.max() < 200
    assert data.client_indices.shape == (5, 8)


def test_headers_footers_and_quotes_are_removed(data):
    """Of each post the group's two words and ten others are left, nothing of them unknown but in other parts."""
    assert (data.train.inputs[:, :11] > 1).all(), "eleven words are left"
    assert (data.train.inputs[:, 11] == 0).all(), "and nothing behind them"
    vocabulary = np.unique(data.train.inputs)
    assert len(vocabulary) == 1 + 2 * 20 + 30 + 1, "padding, topics, common words and the cafe"


def test_labels_are_the_positions_of_the_groups(data):
    first = {label: set(data.train.inputs[data.train.labels == label, 0]) for label in range(20)}
    assert all(len(tokens) == 1 for tokens in first.values()), "a group's topic word stands first"
    assert len(set.union(*first.values())) == 20
    assert np.bincount(data.test.labels).tolist() == [3] * 20


def test_parts_are_the_fixed_shuffle_of_the_training_folder(newsgroups_dir, data):
    order = np.repeat(np.arange(20), 8)[np.concatenate(split_indices(160, (75, 15, 10)))]
    found = np.concatenate([data.train.labels, data.validation.labels, data.kd.labels])
    np.testing.assert_array_equal(found, order)
    again = load_task(task(newsgroups_dir, partition=IidPartition()), seed=4)
    np.testing.assert_array_equal(again.train.inputs, data.train.inputs)


def test_snippets_speak_of_every_group(data):
    texts, labels = snippets(None)
    assert set(labels.tolist()) == set(range(20))
    assert data.snippets.inputs.shape == (len(texts), 12)
    np.testing.assert_array_equal(data.snippets.labels, labels)


def test_own_snippets(tmp_path, newsgroups_dir):
    own = tmp_path / "own.tsv"
    own.write_text("sci.space\tTopic14a topic14b\nrec.autos\tunheard\n")
    data = load_task(task(newsgroups_dir, snippets=str(own)), seed=0)
    assert data.snippets.labels.tolist() == [GROUPS.index("sci.space"), GROUPS.index("rec.autos")]
    topic = data.test.inputs[data.test.labels == 14][0, :2]
    assert data.snippets.inputs[0].tolist() == [*topic.tolist(), *[0] * 10]
    assert data.snippets.inputs[1].tolist() == [1, *[0] * 11]


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        (None, 2, "does not exist"),
        ("", 2, "is empty"),
        ("sci.space\tgood\nsci.spac\tbad\n", 3, "line 2 is not a group"),
        ("sci.space good\n", 3, "line 1 is not a group"),
        ("sci.space\t \n", 3, "line 1 is not a group"),
    ],
)
def test_bad_snippets_are_one_line(tmp_path, newsgroups_dir, content, code, line):
    own = tmp_path / "own.tsv"
    if content is not None:
        own.write_text(content)
    settings = task(newsgroups_dir, snippets=str(own))
    with pytest.raises(UserError, match=line) as raised:
        check_data(settings)
    assert raised.value.exit_code == code
    assert str(raised.value).startswith("task.snippets: ")


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_names_the_setting_and_the_remedy(folder, part):
    shutil.rmtree(folder / part)
    line, code = failure(task(folder))
    assert code == 2
    assert f"lacks {part}" in line
    assert "--download" in line


@pytest.mark.parametrize("spoil", [shutil.rmtree, lambda path: [f.unlink() for f in path.iterdir()]])
def test_a_group_without_posts_is_corrupt(folder, spoil):
    spoil(folder / PARTS[1] / "sci.med")
    line, code = failure(task(folder))
    assert code == 3
    assert f"{PARTS[1]}/sci.med has no posts" in line


def test_scikit_learns_pickle_is_not_enough(tmp_path):
    """`fetch_20newsgroups` would take it for the data set."""
    (tmp_path / "20news-bydate_py3.pkz").write_bytes(b"a compressed pickle")
    assert failure(task(tmp_path))[1] == 2


@pytest.fixture
def archive(newsgroups_dir, tmp_path, monkeypatch):
    """What the site serves."""
    served = tmp_path / "20news-bydate.tar.gz"
    with tarfile.open(served, "w:gz") as tar:
        for part in PARTS:
            tar.add(newsgroups_dir / part, part)
    digest = hashlib.sha256(served.read_bytes()).hexdigest()
    handler = partial(QuietServer, directory=str(served.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        url = f"http://127.0.0.1:{server.server_port}/{served.name}"
        monkeypatch.setattr(_twenty_newsgroups, "ARCHIVE", RemoteFileMetadata(served.name, url, digest))
        yield served
        server.shutdown()


class QuietServer(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_download_unpacks_what_is_missing(archive, tmp_path, data):
    root = tmp_path / "new"
    loaded = load_task(task(root), seed=3, download=True)
    np.testing.assert_array_equal(loaded.train.inputs, data.train.inputs)
    assert sorted(path.name for path in root.iterdir()) == sorted(PARTS)


def test_a_download_of_other_bytes_is_one_line_and_unpacks_nothing(archive, tmp_path):
    archive.write_bytes(b"<html>sign in to this network</html>")
    line, code = failure(task(tmp_path / "new"), download=True)
    assert code == 5
    assert "SHA-256" in line
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.skipif(
    not (REAL_FILES / PARTS[0]).is_dir(), reason="FEDREVIVE_TEST_DATA names no folder with 20 Newsgroups"
)
def test_the_real_files():
    data = load_task(task(REAL_FILES, vocabulary=4000), seed=0)
    assert [len(s) for s in (data.train, data.validation, data.kd, data.test)] == [8485, 1697, 1132, 7532]
    assert np.bincount(data.test.labels)[:3].tolist() == [319, 389, 394]

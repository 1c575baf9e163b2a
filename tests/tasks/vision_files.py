"""Small data sets in the exact form that users have them on disk."""

from __future__ import annotations

import hashlib
import io
import json
import pickle  # noqa: TID251  CIFAR's files are pickles; torchvision reads what is written here

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from torchvision.datasets import CIFAR100

from fedrevive.tasks import cifar100

CIFAR100_COUNTS = {"train": 400, "test": 100}


def _write_part(path, count, rng):
    """A part as published: a protocol-2 pickle of a dict, one row of 3,072 bytes per image, fine and coarse labels."""
    content = {
        "filenames": [f"image_{index}.png" for index in range(count)],
        "batch_label": f"{path.name}ing batch 1 of 1",
        "fine_labels": [int(label) for label in np.arange(count) % 100],
        "coarse_labels": [int(label) for label in np.arange(count) % 20],
        "data": rng.integers(256, size=(count, 3072)).astype(np.uint8),
    }
    path.write_bytes(pickle.dumps(content, protocol=2))


def write_cifar100(root, monkeypatch):
    """Small files below `root`, and their sizes and digests in place of the published ones."""
    folder = root / "cifar-100-python"
    folder.mkdir()
    rng = np.random.Generator(np.random.Philox(1))
    for name, count in CIFAR100_COUNTS.items():
        _write_part(folder / name, count, rng)
    meta = {"fine_label_names": [f"class {n}" for n in range(100)], "coarse_label_names": []}
    (folder / "meta").write_bytes(pickle.dumps(meta, protocol=2))
    contents = {name: (folder / name).read_bytes() for name in cifar100.FILES}
    digests = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(
        cifar100, "FILES", {name: (len(contents[name]), digest) for name, digest in digests.items()}
    )
    monkeypatch.setattr(CIFAR100, "train_list", [["train", digests["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", digests["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": digests["meta"]})


MNIST_TRAIN, MNIST_TEST, MNIST_WRITERS = 240, 60, 12


def idx(array, kind=8):
    """The on-disk format: 0, 0, type, number of dimensions, big-endian sizes, then the values."""
    sizes = b"".join(int(size).to_bytes(4, "big") for size in array.shape)
    values = array.astype(np.uint8 if kind == 8 else ">i4").tobytes()
    return bytes([0, 0, kind, array.ndim]) + sizes + values


def extended(labels, writers):
    """QMNIST's eight columns: the digit, the series, the writer, ..."""
    rows = np.zeros((len(labels), 8), np.int32)
    rows[:, 0], rows[:, 2] = labels, writers
    return rows


def mnist_parts():
    rng = np.random.Generator(np.random.Philox(1))
    for part, count, first in (("train", MNIST_TRAIN, 100), ("t10k", MNIST_TEST, 900)):
        labels = np.arange(count) % 10
        yield (
            part,
            rng.integers(256, size=(count, 28, 28)),
            labels,
            extended(labels, first + np.arange(count) % MNIST_WRITERS),
        )


def write_mnist_writers(root):
    """torchvision's two folders. QMNIST's test part goes on after MNIST's."""
    for name in ("MNIST", "QMNIST"):
        (root / name / "raw").mkdir(parents=True)
    for part, images, labels, rows in mnist_parts():
        (root / "MNIST" / "raw" / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (root / "MNIST" / "raw" / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
        known = rows if part == "train" else np.concatenate([rows, rows + 1])
        name = f"qmnist-{'train' if part == 'train' else 'test'}-labels-idx2-int"
        (root / "QMNIST" / "raw" / name).write_bytes(idx(known, kind=12))


FEMNIST_WRITERS = 8


def femnist_samples():
    """Writer -> images [n, 28, 28] and labels [n]; every image holds its writer's number in its corner."""
    rng = np.random.Generator(np.random.Philox(1))
    for writer in range(FEMNIST_WRITERS):
        count = 12 + 3 * writer
        images = rng.integers(256, size=(count, 28, 28)).astype(np.uint8)
        images[:, 0, 0] = writer
        yield f"f{writer:04}_{14 + writer}", images, rng.integers(62, size=count)


def _leaf(writers):
    """A file as LEAF writes it: floats in [0, 1], 784 a row."""
    data = {
        name: {"x": (images.reshape(-1, 784) / 255).tolist(), "y": labels.tolist()}
        for name, images, labels in writers
    }
    counts = [len(data[name]["y"]) for name in data]
    return json.dumps({"users": list(data), "num_samples": counts, "user_data": data})


def write_femnist_leaf(root):
    """LEAF's two parts, each writer's samples cut nine to one, over several files."""
    everyone = list(femnist_samples())
    for part, cut in (
        ("train", lambda n: slice(0, 9 * n // 10)),
        ("test", lambda n: slice(9 * n // 10, None)),
    ):
        (root / "femnist" / "data" / part).mkdir(parents=True)
        pieces = [(name, x[cut(len(y))], y[cut(len(y))]) for name, x, y in everyone]
        for number in range(2):
            name = f"all_data_{number}_niid_0_keep_0_{part}_9.json"
            (root / "femnist" / "data" / part / name).write_text(_leaf(pieces[number::2]))


def png(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def _parquet(writers):
    """Columns as in flwrlabs/femnist: the image as a PNG in a struct, the writer, the class."""
    rows = [
        {
            "image": {"bytes": png(image), "path": None},
            "writer_id": name,
            "hsf_id": 0,
            "character": int(label),
        }
        for name, images, labels in writers
        for image, label in zip(images, labels, strict=True)
    ]
    return pa.Table.from_pylist(rows)


def write_femnist_parquet(root):
    (root / "femnist" / "data").mkdir(parents=True)
    everyone = list(femnist_samples())
    for number in range(2):
        name = f"train-0000{number}-of-00002.parquet"
        pq.write_table(_parquet(everyone[4 * number : 4 * number + 4]), root / "femnist" / "data" / name)

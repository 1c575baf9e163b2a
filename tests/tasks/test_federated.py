import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from fedrevive.settings.model import CnnSettings
from fedrevive.settings.task import (
    Cifar10Task,
    DigitsAffineTask,
    DigitsTask,
    FashionMnistTask,
    IidPartition,
)
from fedrevive.tasks import digits, load_task, task_info
from fedrevive.tasks.federated import split_indices
from fedrevive.tasks.models import build_model

torch.set_num_threads(1)


def parts(data):
    return {"train": data.train, "validation": data.validation, "kd": data.kd, "test": data.test}


@pytest.fixture(scope="module", params=[DigitsTask, DigitsAffineTask], ids=["digits", "digits_affine"])
def task(request):
    return request.param(clients=30, samples_per_client=40)


@pytest.fixture(scope="module")
def data(task):
    return load_task(task, seed=3)


def test_arrays_have_the_promised_shapes(task, data):
    info = task_info(task)
    assert data.info == info
    for split in parts(data).values():
        assert split.inputs.shape == (len(split), *info.input_shape)
        assert split.inputs.dtype == np.uint8
        assert split.labels.dtype == np.int64
        assert split.inputs.flags.c_contiguous
        assert split.labels.flags.c_contiguous
        assert set(split.labels.tolist()) == set(range(info.classes))
    assert data.client_indices.shape == (30, 40)
    assert data.client_indices.dtype == np.int32


def test_normalisation_constants_are_those_of_the_train_part(data):
    pixels = data.train.inputs / 255.0
    assert data.info.mean == pytest.approx((pixels.mean(),), abs=1e-4)
    assert data.info.std == pytest.approx((pixels.std(),), abs=1e-4)


def test_parts_do_not_depend_on_the_experiment_seed_but_the_partition_does(task, data):
    other = load_task(task, seed=4)
    for name, split in parts(data).items():
        np.testing.assert_array_equal(split.inputs, parts(other)[name].inputs)
        np.testing.assert_array_equal(split.labels, parts(other)[name].labels)
    assert (other.client_indices != data.client_indices).any()


def test_class_histograms_equal_a_loop(data):
    expected = [[int((data.train.labels[row] == k).sum()) for k in range(10)] for row in data.client_indices]
    histograms = data.class_histograms()
    assert histograms.dtype == np.int64
    np.testing.assert_array_equal(histograms, expected)


def test_plain_digits_are_scikit_learns():
    from sklearn import datasets

    original = datasets.load_digits()
    data = load_task(DigitsTask(clients=2), seed=0)
    assert [len(split) for split in parts(data).values()] == [1078, 269, 90, 360]
    order = np.concatenate(split_indices(1797, digits.PERCENT))
    joined = np.concatenate([split.inputs for split in parts(data).values()])
    levels = original.images[order].astype(int)[:, None]
    np.testing.assert_array_equal(joined, np.array([round(v * 255 / 16) for v in range(17)])[levels])
    labels = np.concatenate([split.labels for split in parts(data).values()])
    np.testing.assert_array_equal(labels, original.target[order])


def test_split_parts_are_disjoint_and_complete():
    pieces = split_indices(1797, (60, 15, 5, 20))
    np.testing.assert_array_equal(np.sort(np.concatenate(pieces)), np.arange(1797))
    assert [len(piece) for piece in split_indices(50_000, (75, 15, 10))] == [37_500, 7_500, 5_000]


def test_copies_of_one_original_stay_in_one_part():
    """The pose draws reveal each image's original: rebuild every copy and look for the part that holds it."""
    from sklearn import datasets

    original = datasets.load_digits()
    posed = digits.affine_copies(original.images * (255 / 16))
    data = load_task(DigitsAffineTask(clients=2), seed=0)
    for split, indices in zip(parts(data).values(), split_indices(1797, digits.PERCENT), strict=True):
        assert len(split) == digits.COPIES * len(indices)
        np.testing.assert_array_equal(
            split.inputs.reshape(len(indices), digits.COPIES, 12, 12), posed[indices]
        )
        np.testing.assert_array_equal(split.labels[:: digits.COPIES], original.target[indices])


def test_affine_copies_of_an_image_differ_and_depend_on_that_image_alone():
    images = np.zeros((3, 8, 8))
    images[:, 2:6, 3:5] = 255.0
    posed = digits.affine_copies(images)
    assert posed.shape == (3, digits.COPIES, 12, 12)
    flat = posed.reshape(-1, 144)
    assert len(np.unique(flat, axis=0)) == len(flat)
    np.testing.assert_array_equal(digits.affine_copies(images[:2]), posed[:2])


def test_affine_map_keeps_area_and_centre_within_its_limits():
    images = np.zeros((200, 8, 8))
    images[:, 2:6, 2:6] = 255.0
    posed = digits.affine_copies(images).reshape(-1, 12, 12) / 255.0
    area = posed.sum(axis=(1, 2)) / 16.0
    limit = np.exp(2 * digits.MAX_LOG_SCALE) * 1.1
    assert area.min() > 1 / limit
    assert area.max() < limit
    weights = posed.sum(axis=1), posed.sum(axis=2)
    for axis in weights:
        centre = (axis * np.arange(12)).sum(axis=1) / axis.sum(axis=1) - 5.5
        assert np.abs(centre).max() < digits.MAX_SHIFT + 0.3
        assert np.abs(centre).max() > 0.8 * digits.MAX_SHIFT
        assert abs(centre.mean()) < 0.15


def test_information_costs_neither_torch_nor_scikit_learn():
    code = (
        "import sys\n"
        "from fedrevive.settings.task import Cifar10Task, DigitsAffineTask, FashionMnistTask\n"
        "from fedrevive.tasks import task_info\n"
        "for task in (DigitsAffineTask(), FashionMnistTask(image_size=14), Cifar10Task()):\n"
        "    print(task_info(task).input_shape)\n"
        "print(sorted({'torch', 'sklearn', 'scipy', 'torchvision', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["(1, 12, 12)", "(1, 14, 14)", "(3, 32, 32)", "[]"]


def test_information_follows_the_image_size():
    assert task_info(FashionMnistTask()).input_shape == (1, 28, 28)
    assert task_info(FashionMnistTask(image_size=14)).std != task_info(FashionMnistTask()).std
    assert task_info(Cifar10Task(image_size=16)).input_shape == (3, 16, 16)
    assert task_info(Cifar10Task(image_size=16)).std != task_info(Cifar10Task()).std


def test_plain_digits_can_be_learnt():
    data = load_task(DigitsTask(clients=1, samples_per_client=1000, partition=IidPartition()), seed=0)
    model = build_model(CnnSettings(), data.info, seed=0)

    def tensors(split):
        pixels = torch.from_numpy(split.inputs).float() / 255
        return (pixels - data.info.mean[0]) / data.info.std[0], torch.from_numpy(split.labels)

    images, labels = tensors(data.train)
    optimizer = torch.optim.Adam(model.module.parameters(), lr=3e-3)
    for order in torch.from_numpy(data.client_indices[0].astype(np.int64)).repeat(5).split(50):
        model.gradient.zero_()
        nn.functional.cross_entropy(model.module(images[order]), labels[order]).backward()
        optimizer.step()
    model.module.eval()
    test_images, test_labels = tensors(data.test)
    with torch.no_grad():
        accuracy = (model.module(test_images).argmax(1) == test_labels).float().mean().item()
    assert accuracy > 0.85

"""Local training against slow forms: float64 descent, and torch.optim on the batches the client really saw."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedrevive.core.local_training import ClientData, train_client
from fedrevive.core.messages import ClientTask
from fedrevive.core.model_state import FlatModel
from fedrevive.settings.client import ClientSettings
from fedrevive.settings.model import CnnSettings
from fedrevive.tasks.federated import TaskInfo
from fedrevive.tasks.models import build_model

SAMPLES, PIXELS, CLASSES = 12, 4, 3


def workspace() -> FlatModel:
    return FlatModel(nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, CLASSES, bias=False)), "reset")


def whole_batches() -> tuple[ClientData, np.ndarray, np.ndarray]:
    """One client whose every batch is its whole data, so that the order of samples does not matter."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (SAMPLES, 2, 2, 1), dtype=np.uint8)
    labels = random.integers(0, CLASSES, SAMPLES)
    data = ClientData(
        inputs=torch.from_numpy(images),
        labels=torch.from_numpy(labels),
        client_indices=torch.arange(SAMPLES, dtype=torch.int32)[None],
        mean=torch.tensor([0.5]),
        std=torch.tensor([0.25]),
    )
    inputs = (images.reshape(SAMPLES, PIXELS) / 255 - 0.5) / 0.25
    return data, inputs, labels


@pytest.mark.parametrize("proximal", [0.0, 0.8])
def test_descent_equals_the_slow_form(proximal: float) -> None:
    data, inputs, labels = whole_batches()
    base = np.random.default_rng(1).standard_normal(CLASSES * PIXELS).astype(np.float32)
    settings = ClientSettings(optimizer="sgd", lr=0.3, batch_size=SAMPLES, local_steps=6)
    task = ClientTask(client_id=0, job=0, nth=0, base_arrivals=0, dispatched_at=0, arrives_at=1)
    update = train_client(workspace(), base, data, task, settings, seed=0, proximal=proximal)

    start = base.astype(np.float64).reshape(CLASSES, PIXELS)
    weights = start.copy()
    for _ in range(6):
        scores = np.exp(inputs @ weights.T)
        error = scores / scores.sum(axis=1, keepdims=True) - np.eye(CLASSES)[labels]
        gradient = error.T @ inputs / SAMPLES + proximal * (weights - start)
        weights = weights - 0.3 * gradient
    np.testing.assert_allclose(update.model, weights.ravel(), atol=1e-5)
    assert update.samples == 6 * SAMPLES


CLIENTS, OWNED = 5, 7
OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}


class Recorder(nn.Module):
    """A small network that remembers the batches it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 6), nn.Tanh(), nn.Linear(6, CLASSES))
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        assert self.training
        self.seen.append(images.clone())
        return self.layers(images)


def federation() -> ClientData:
    """Sample i is an image whose every pixel is i; client k owns samples 7k .. 7k+6."""
    count = CLIENTS * OWNED
    levels = torch.arange(count, dtype=torch.uint8)
    return ClientData(
        inputs=levels[:, None, None, None].expand(count, 2, 2, 1).contiguous(),
        labels=torch.from_numpy(np.random.default_rng(2).integers(0, CLASSES, count)),
        client_indices=torch.arange(count, dtype=torch.int32).reshape(CLIENTS, OWNED),
        mean=torch.tensor([0.06]),
        std=torch.tensor([0.04]),
    )


def trained(
    settings: ClientSettings, client: int = 3, nth: int = 2, seed: int = 9, proximal: float = 0.0
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """(base, trained model, sample numbers of each batch) of one job."""
    module = Recorder()
    model = FlatModel(module, "reset")
    base = np.random.default_rng(1).standard_normal(model.spec.size).astype(np.float32)
    task = ClientTask(client, job=11, nth=nth, base_arrivals=0, dispatched_at=0, arrives_at=1)
    update = train_client(model, base, federation(), task, settings, seed=seed, proximal=proximal)
    assert update.samples == settings.local_steps * settings.batch_size
    batches = [
        np.rint((batch[:, 0, 0, 0].numpy().astype(np.float64) * 0.04 + 0.06) * 255).astype(int)
        for batch in module.seen
    ]
    return base, update.model, batches


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("proximal", [0.0, 0.7])
def test_training_equals_torch_optim_on_the_same_batches(optimizer: str, proximal: float) -> None:
    settings = ClientSettings(optimizer=optimizer, lr=0.05, batch_size=4, local_steps=9)
    base, model, batches = trained(settings, proximal=proximal)

    module = Recorder()
    nn.utils.vector_to_parameters(torch.tensor(base), module.parameters())
    anchors = [parameter.detach().clone() for parameter in module.parameters()]
    step = OPTIMIZERS[optimizer](module.parameters(), lr=0.05)
    data = federation()
    for batch in batches:
        images = (
            torch.from_numpy((batch / 255 - 0.06) / 0.04).float()[:, None, None, None].expand(-1, 1, 2, 2)
        )
        loss = functional.cross_entropy(module(images), data.labels[torch.from_numpy(batch)])
        pairs = zip(module.parameters(), anchors, strict=True)
        loss = loss + proximal / 2 * sum((x - anchor).square().sum() for x, anchor in pairs)
        step.zero_grad()
        loss.backward()
        step.step()
    expected = nn.utils.parameters_to_vector(module.parameters()).detach().numpy()
    np.testing.assert_allclose(model, expected, atol=2e-5)
    assert np.abs(model - base).max() > 0.1  # the tolerance is small beside what training does


@pytest.mark.parametrize("client", [0, 1, 4])
def test_batches_are_full_and_pass_over_the_clients_own_samples(client: int) -> None:
    _, _, batches = trained(ClientSettings(batch_size=4, local_steps=9), client=client)
    assert [len(batch) for batch in batches] == [4] * 9
    order = np.concatenate(batches)
    own = list(range(OWNED * client, OWNED * (client + 1)))
    passes = [order[start : start + OWNED] for start in range(0, len(order), OWNED)]
    assert all(sorted(each.tolist()) == own for each in passes[:-1])
    assert set(passes[-1].tolist()) <= set(own)
    assert len({tuple(each) for each in passes[:-1]}) > 1  # shuffled anew in every pass


def test_the_order_of_samples_is_keyed_by_client_job_and_seed() -> None:
    def order(**key: int) -> tuple[int, ...]:
        _, _, batches = trained(ClientSettings(batch_size=OWNED, local_steps=3), **key)
        return tuple(np.concatenate(batches) % OWNED)  # positions within the client's samples

    keys = [{}, {"client": 2}, {"nth": 0}, {"nth": 1}, {"seed": 8}]
    orders = [order(**key) for key in keys]
    assert len(set(orders)) == len(keys)
    assert order() == orders[0]


def photographs() -> ClientData:
    """One client with 16 noisy images of 9x10; no pixel is black, so that crops show what was added to them."""
    random = np.random.default_rng(4)
    return ClientData(
        inputs=torch.from_numpy(random.integers(1, 256, (16, 9, 10, 3), dtype=np.uint8)),
        labels=torch.arange(16) % CLASSES,
        client_indices=torch.arange(16, dtype=torch.int32)[None],
        mean=torch.tensor([0.1, 0.2, 0.3]),
        std=torch.tensor([0.5, 0.6, 0.7]),
    )


class Album(nn.Module):
    """Remembers the images it was trained on, as they were before normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, CLASSES)
        self.pages: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        data = photographs()
        pixels = (images.permute(0, 2, 3, 1) * data.std + data.mean) * 255
        self.pages.append(pixels.round().to(torch.uint8))
        return self.head(images.mean(dim=(2, 3)))


def album(augmentation: str, nth: int = 0, seed: int = 1) -> Tensor:
    """Images [64, 9, 10, 3] of one job of 16 steps."""
    module = Album()
    settings = ClientSettings(batch_size=4, local_steps=16, augmentation=augmentation)
    task = ClientTask(0, job=0, nth=nth, base_arrivals=0, dispatched_at=0, arrives_at=1)
    model = FlatModel(module, "reset")
    train_client(model, model.vector.numpy().copy(), photographs(), task, settings, seed=seed)
    return torch.cat(module.pages)


def test_augmented_batches_are_crops_and_flips_of_the_same_samples_on_black() -> None:
    offsets = set()
    for original, shown in zip(album("none"), album("crop_flip"), strict=True):
        padded = functional.pad(original, (0, 0, 4, 4, 4, 4))
        matches = [
            (top, left, flip)
            for top in range(9)
            for left in range(9)
            for flip in (False, True)
            if torch.equal(shown.flip(1) if flip else shown, padded[top : top + 9, left : left + 10])
        ]
        assert len(matches) == 1
        offsets.add(matches[0])
    assert len(offsets) > 40
    assert {flip for *_, flip in offsets} == {True, False}


def test_augmentation_is_keyed_by_job_and_seed_and_leaves_the_data_alone() -> None:
    first = album("crop_flip")
    assert torch.equal(first, album("crop_flip"))
    assert not torch.equal(first, album("crop_flip", nth=1))
    assert not torch.equal(first, album("crop_flip", seed=2))


def test_adam_starts_afresh_and_the_model_received_stays_as_it_was() -> None:
    """Two jobs in one workspace give what each gives alone."""
    settings = ClientSettings(optimizer="adam", lr=0.05, batch_size=4, local_steps=5)
    model = FlatModel(Recorder(), "reset")
    base = np.random.default_rng(1).standard_normal(model.spec.size).astype(np.float32)
    kept = base.copy()
    task = ClientTask(3, job=0, nth=2, base_arrivals=0, dispatched_at=0, arrives_at=1)
    data = federation()
    alone = train_client(model, base, data, task, settings, seed=9)
    train_client(model, base, data, task._replace(client_id=1), settings, seed=9)
    again = train_client(model, base, data, task, settings, seed=9)
    np.testing.assert_array_equal(alone.model, again.model)
    np.testing.assert_array_equal(base, kept)


@pytest.mark.parametrize("kind", ["crop_flip", "crop_flip_rotate"])
def test_augmentation_is_a_function_of_the_job_and_leaves_the_data_alone(kind: str) -> None:
    images = torch.randint(
        1, 256, (16, 12, 12, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    data = ClientData(
        inputs=images.clone(),
        labels=torch.arange(16) % CLASSES,
        client_indices=torch.arange(16, dtype=torch.int32)[None],
        mean=torch.zeros(3),
        std=torch.ones(3),
    )
    settings = ClientSettings.model_validate(
        {"augmentation": kind, "batch_size": 16, "local_steps": 1, "optimizer": "sgd", "lr": 0.1}
    )

    def result(nth: int, chosen: ClientSettings = settings) -> np.ndarray:
        module = nn.Sequential(nn.Flatten(), nn.Linear(432, CLASSES))
        model = FlatModel(module, "reset")
        base = np.zeros(model.spec.size, np.float32)
        task = ClientTask(0, job=1, nth=nth, base_arrivals=0, dispatched_at=0, arrives_at=1)
        return train_client(model, base, data, task, chosen, seed=0).model

    np.testing.assert_array_equal(result(0), result(0))
    assert (result(0) != result(1)).any()
    other = settings.model_copy(update={"augmentation": "crop_flip" if "rotate" in kind else "none"})
    assert (result(0) != result(0, other)).any()
    assert torch.equal(data.inputs, images)


def test_a_client_with_fewer_samples_trains_on_them_alone() -> None:
    """The end of its row is -1."""
    full = federation()
    indices = full.client_indices.clone()
    indices[3, 4:] = -1
    assert dataclasses.replace(full, client_indices=indices).owned(3).tolist() == [21, 22, 23, 24]
    assert full.owned(3).tolist() == list(range(21, 28))


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
def test_bfloat16_moves_the_model_nearly_where_float32_does(norm: str) -> None:
    info = TaskInfo("toy", (1, 8, 8), CLASSES, (0.06,), (0.04,))
    random = np.random.default_rng(4)
    pixels = torch.from_numpy(random.integers(0, 256, (40, 8, 8, 1), dtype=np.uint8))
    labels = torch.from_numpy(random.integers(0, CLASSES, 40))
    owned = torch.arange(40, dtype=torch.int32).reshape(1, 40)
    data = ClientData(pixels, labels, owned, torch.tensor([0.06]), torch.tensor([0.04]))
    task = ClientTask(0, job=0, nth=0, base_arrivals=0, dispatched_at=0, arrives_at=1)
    moved = {}
    for precision in ("float32", "bfloat16"):
        model = build_model(CnnSettings(width=8, norm=norm), info, 0)
        base = model.vector.numpy().copy()
        settings = ClientSettings(optimizer="sgd", lr=0.05, batch_size=8, local_steps=10, precision=precision)
        update = train_client(model, base, data, task, settings, seed=0)
        assert update.model.dtype == np.float32
        moved[precision] = update.model - base
    exact, rough = moved["float32"], moved["bfloat16"]
    assert not np.array_equal(exact, rough)
    assert np.linalg.norm(exact - rough) < 0.1 * np.linalg.norm(exact)

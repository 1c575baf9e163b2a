"""The pool of pseudo-samples and class-weighted sampling."""

from __future__ import annotations

import torch

from fedrevive.core.synthetic_pool import (
    appended,
    draw_by_class,
    draw_uniformly,
    empty_pool,
    noise_samples,
    real_samples,
)

CPU = torch.device("cpu")


def pool_of(labels: list[int]):
    images = torch.arange(len(labels), dtype=torch.float32).view(-1, 1, 1, 1)
    return appended(empty_pool((1, 1, 1), CPU), images, torch.tensor(labels), capacity=10_000)


def test_first_in_first_out() -> None:
    pool = empty_pool((1, 1, 1), CPU)
    for number in range(10):
        images = torch.full((3, 1, 1, 1), float(number))
        pool = appended(pool, images, torch.full((3,), number), capacity=7)
        assert len(pool) == min(7, 3 * (number + 1))
    assert pool.labels.tolist() == [7, 8, 8, 8, 9, 9, 9]
    assert pool.samples.flatten().tolist() == [7, 8, 8, 8, 9, 9, 9]


def test_old_pools_stay() -> None:
    pool = pool_of([0, 1])
    appended(pool, torch.ones(2, 1, 1, 1), torch.tensor([5, 5]), capacity=2)
    assert pool.labels.tolist() == [0, 1]
    assert pool.samples.flatten().tolist() == [0.0, 1.0]


def test_sampling_follows_proportions_and_is_uniform_inside_a_class() -> None:
    labels = [2, 0, 2, 1, 2, 2]
    proportions = torch.tensor([[0.5, 0.3, 0.2], [0.0, 0.0, 1.0]])
    count = 40_000
    drawn = draw_by_class(pool_of(labels), proportions, count, torch.Generator().manual_seed(0))
    for row, shares in zip(drawn, proportions.tolist(), strict=True):
        observed = (torch.bincount(row, minlength=6) / count).tolist()
        for position, label in enumerate(labels):
            assert abs(observed[position] - shares[label] / labels.count(label)) < 0.01


def test_absent_class_falls_back_to_the_whole_pool() -> None:
    proportions = torch.tensor([[0.0, 0.0, 1.0]])
    drawn = draw_by_class(pool_of([0, 1, 1, 0]), proportions, 20_000, torch.Generator().manual_seed(1))
    shares = torch.bincount(drawn[0], minlength=4) / 20_000
    torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.02, rtol=0)


def test_uniform_sampling_looks_at_no_label() -> None:
    drawn = draw_uniformly(pool_of([0, 0, 0, 1]), 2, 20_000, torch.Generator().manual_seed(1))
    assert drawn.shape == (2, 20_000)
    for row in drawn:
        shares = torch.bincount(row, minlength=4) / 20_000
        torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.02, rtol=0)


def test_noise_is_standard_normal_once_normalised() -> None:
    mean, std = torch.tensor([0.4, 0.5]).view(1, 2, 1, 1), torch.tensor([0.3, 0.2]).view(1, 2, 1, 1)
    images = noise_samples(torch.zeros(200), (2, 9, 9), mean, std, torch.Generator().manual_seed(0))
    inputs = ((images - mean) / std).transpose(0, 1).flatten(1)
    torch.testing.assert_close(inputs.mean(dim=1), torch.zeros(2), atol=0.03, rtol=0)
    torch.testing.assert_close(inputs.std(dim=1), torch.ones(2), atol=0.03, rtol=0)


def test_real_samples_keep_their_own_labels_and_follow_the_shares() -> None:
    held_out = pool_of([2, 0, 2, 1])
    shares = torch.tensor([0.5, 0.0, 0.5])
    images, labels = real_samples(held_out, shares, 4000, torch.Generator().manual_seed(0))
    assert {(int(i), int(y)) for i, y in zip(images.flatten(), labels, strict=True)} == {
        (0, 2),
        (1, 0),
        (2, 2),
    }
    torch.testing.assert_close(torch.bincount(labels, minlength=3) / 4000, shares, atol=0.03, rtol=0)

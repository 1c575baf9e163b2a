"""Augmentation of pseudo-samples."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from fedrevive.core.augmentation import MAX_DEGREES, PADDING, build_augmentation, crop_flip, rotate

CPU = torch.device("cpu")


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_none_normalises_only() -> None:
    images = torch.rand(3, 2, 4, 4, generator=random())
    augment = build_augmentation("none", (0.5, 0.25), (0.5, 2.0), CPU)
    result = augment(images, random())
    torch.testing.assert_close(result[:, 0], (images[:, 0] - 0.5) / 0.5)
    torch.testing.assert_close(result[:, 1], (images[:, 1] - 0.25) / 2.0)


@pytest.mark.parametrize(("border", "mode"), [("reflect", "reflect"), ("black", "constant")])
def test_crop_flip_is_pad_crop_flip_of_each_sample(border: Literal["reflect", "black"], mode: str) -> None:
    images = torch.rand(40, 2, 6, 16, generator=random())  # wide enough that no flipped crop equals another
    padded = torch.nn.functional.pad(images, (PADDING,) * 4, mode=mode)
    seen = set()
    for image, result in zip(padded, crop_flip(images, random(1), border), strict=True):
        crops = {
            (top, left, flip): image[:, top : top + 6, left : left + 16].flip(-1)
            if flip
            else image[:, top : top + 6, left : left + 16]
            for top in range(2 * PADDING + 1)
            for left in range(2 * PADDING + 1)
            for flip in (False, True)
        }
        matches = [key for key, crop in crops.items() if torch.equal(crop, result)]
        assert matches
        seen.add(matches[0])
    assert len(seen) > 20
    assert {flip for _, _, flip in seen} == {True, False}


def test_crop_flip_draws_from_its_generator_only_and_passes_gradients() -> None:
    images = torch.rand(4, 1, 8, 8, generator=random()).requires_grad_()
    before = torch.get_rng_state()
    first = crop_flip(images, random(3))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, crop_flip(images, random(3)))
    first.sum().backward()
    assert images.grad is not None
    torch.testing.assert_close(images.grad.sum(), torch.tensor(4.0 * 64))


def test_rotate_turns_every_image_by_its_own_angle_as_torchvision_does() -> None:
    from torchvision.transforms.functional import rotate as reference

    images = torch.randint(0, 256, (30, 3, 32, 32), generator=random(), dtype=torch.uint8)
    turned = rotate(images, random(1))
    assert turned.dtype == torch.uint8
    angles = MAX_DEGREES * (2 * torch.rand(30, generator=random(1)) - 1)
    assert angles.min() < -12
    assert angles.max() > 12
    for image, result, angle in zip(images, turned, angles.tolist(), strict=True):
        agreement = (reference(image, angle) == result).float().mean()
        assert agreement > 0.98  # a pixel between two may fall to either
        assert (reference(image, -angle) == result).float().mean() < agreement or abs(angle) < 2


def test_rotate_brings_black_in_from_outside() -> None:
    turned = rotate(torch.full((20, 1, 16, 24), 200, dtype=torch.uint8), random(2))
    assert set(turned.unique().tolist()) == {0, 200}
    assert (turned[:, :, 4:12, 8:16] == 200).all()
    assert turned.permute(0, 2, 3, 1).is_contiguous()

"""Image generator and Reptile step."""

from __future__ import annotations

import pytest
import torch

from fedrevive.core.generator import (
    GeneratorState,
    ImageGenerator,
    build_generator,
    initial_state,
    reptile_step,
)
from fedrevive.settings.algorithm import FedReviveSettings

SMALL = FedReviveSettings(latent_size=8, generator_width=4)
CPU = torch.device("cpu")


@pytest.mark.parametrize(("shape", "millions"), [((3, 32, 32), 5.10), ((1, 28, 28), 4.11)])
def test_published_size(shape: tuple[int, int, int], millions: float) -> None:
    model = ImageGenerator(256, 128, shape)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == millions


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 16), (1, 14, 9), (1, 2, 3)])
def test_makes_images_between_zero_and_one(shape: tuple[int, int, int]) -> None:
    model = build_generator(SMALL, shape, seed=1, device=CPU)
    images = model.module(torch.randn(5, 8, generator=torch.Generator().manual_seed(0))).detach()
    assert images.shape == (5, *shape)
    assert 0.0 <= float(images.min()) < float(images.max()) <= 1.0


def test_initial_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = build_generator(SMALL, (1, 8, 8), seed=3, device=CPU)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    assert torch.equal(first.vector, build_generator(SMALL, (1, 8, 8), seed=3, device=CPU).vector)
    assert not torch.equal(first.vector, build_generator(SMALL, (1, 8, 8), seed=4, device=CPU).vector)


def test_reptile_is_adam_on_the_difference() -> None:
    random = torch.Generator().manual_seed(2)
    start = torch.randn(50, generator=random)
    state = GeneratorState(start, torch.zeros(50), torch.zeros(50), 0)
    reference = torch.nn.Parameter(start.double())
    adam = torch.optim.Adam([reference], lr=0.01, betas=(0.5, 0.999))
    for _ in range(7):
        adapted = state.parameters + 0.1 * torch.randn(50, generator=random)
        reference.grad = reference.detach() - adapted.double()
        adam.step()
        state = reptile_step(state, adapted, 0.01)
        torch.testing.assert_close(state.parameters.double(), reference.detach(), atol=1e-5, rtol=0)
    assert state.steps == 7


def test_reptile_limits() -> None:
    state = initial_state(build_generator(SMALL, (1, 8, 8), seed=0, device=CPU))
    assert torch.equal(reptile_step(state, state.parameters, 0.1).parameters, state.parameters)
    assert reptile_step(state, torch.full_like(state.parameters, float("nan")), 0.1) is state

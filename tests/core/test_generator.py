"""Image generator and Reptile step."""

from __future__ import annotations

import pytest
import torch

from fedrevive.core.generator import (
    GeneratorState,
    ImageGenerator,
    build_generator,
    initial_state,
    meta_step,
    reptile_step,
)
from fedrevive.settings.fedrevive import ConvexReptile, FedReviveSettings

SMALL = FedReviveSettings(latent_size=8, generator_width=4)
CONVEX = SMALL.model_copy(update={"reptile": ConvexReptile()})
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
    poisoned = torch.full_like(state.parameters, float("nan"))
    for settings in (SMALL, CONVEX):
        assert meta_step(settings, state, poisoned) is state


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_convex_reptile_is_the_papers_formula(weight: float) -> None:
    start = initial_state(build_generator(SMALL, (1, 8, 8), seed=0, device=CPU))
    adapted = torch.randn(len(start.parameters), generator=torch.Generator().manual_seed(1))
    settings = SMALL.model_copy(update={"reptile": ConvexReptile(weight=weight)})
    moved = meta_step(settings, start, adapted).parameters
    expected = (1 - weight) * start.parameters.double() + weight * adapted.double()
    torch.testing.assert_close(moved.double(), expected, atol=1e-5, rtol=0)
    if weight in (0.0, 1.0):
        assert torch.equal(moved, adapted if weight else start.parameters)


def test_adam_reptile_is_the_default() -> None:
    start = initial_state(build_generator(SMALL, (1, 8, 8), seed=0, device=CPU))
    adapted = start.parameters + 0.1
    expected = reptile_step(start, adapted, SMALL.generator_lr).parameters
    assert torch.equal(meta_step(SMALL, start, adapted).parameters, expected)

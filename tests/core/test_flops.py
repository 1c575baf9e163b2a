"""Cost of an arrival, against torch's own counter."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fedrevive.core.flops import ArrivalWork, arrival_flops, generator_flops
from fedrevive.core.generator import ImageGenerator
from fedrevive.settings.fedrevive import FedReviveSettings

IDLE = ArrivalWork(teachers=8, probed=False, synthesised=False, adversarial=False, distilled=False)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 16), (1, 14, 10)])
def test_generator_matches_the_counter(shape: tuple[int, int, int]) -> None:
    settings = FedReviveSettings(latent_size=10, generator_width=8)
    model = ImageGenerator(10, 8, shape)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(2, 10))
    assert 2 * generator_flops(settings, shape) == counter.get_total_flops()


def test_published_forward_equivalents() -> None:
    settings = FedReviveSettings()
    shape = (3, 32, 32)
    distilled = ArrivalWork(teachers=8, probed=False, synthesised=False, adversarial=False, distilled=True)
    assert arrival_flops(IDLE, settings, 1, shape) == 0
    assert arrival_flops(distilled, settings, 1, shape) == 10_240
    synthesised = ArrivalWork(teachers=8, probed=True, synthesised=True, adversarial=True, distilled=False)
    generator = 3 * 2 * 64 * generator_flops(settings, shape)
    assert arrival_flops(synthesised, settings, 1, shape) == 64 + 2_304 + generator

"""The measured arrival is one that probes and distils, its steps have its shapes, and it can be measured again."""

import pytest
import torch

from fedrevive.benchmark.distillation import DistillingServer, share
from fedrevive.benchmark.distillation_steps import FLOORS, STEPS, DistillationSteps
from fedrevive.benchmark.problems import SMALL_CNN, TEACHERS, distilling

torch.set_num_threads(1)
POOL = 640


@pytest.fixture(scope="module")
def config():
    return distilling(SMALL_CNN, POOL, steps=1)


@pytest.fixture(scope="module")
def server(config):
    return DistillingServer(config)


def test_every_measurement_starts_from_the_same_state(server):
    first, longer, again = (server.sample(count).checksum for count in (1, 2, 1))
    assert first == again != longer


def test_the_measured_arrival_has_all_teachers_a_full_pool_and_distils(server):
    server._server.restore(server._state)
    outcome = server._server.apply(server._server.snapshot(), server._upload(TEACHERS + 1), TEACHERS + 1)[1]
    assert (outcome.info.teachers, outcome.info.pool_size) == (TEACHERS, POOL)
    assert outcome.info.distilled_delta_norm > 0
    # 64 probes, and 8*32 images through a teacher (1 forward) and through the student (3): nothing else divides.
    assert outcome.info.server_flops % (64 + TEACHERS * 32 * (1 + 3)) == 0


def test_steps_have_the_shapes_of_an_arrival(config):
    steps = DistillationSteps(config)
    assert tuple(steps.steps()) == STEPS
    assert tuple(steps.floors()) == FLOORS
    assert steps._images.shape == (TEACHERS, 1, 32, 1, 28, 28)
    assert [inputs.shape for inputs in steps._inputs] == [(TEACHERS * 32, 1, 28, 28)]
    for piece in (*steps.steps().values(), *steps.floors().values()):
        piece()


def test_the_ratio_of_a_step_is_its_share():
    measured = share("share_teachers", [2.0, 3.0], [8.0, 10.0])
    assert (measured.ratio_min, measured.ratio, measured.ratio_max) == (0.25, 0.275, 0.3)

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fedrevive.core.feature_statistics import FeatureTracker, recorded_inputs, statistic_layers
from fedrevive.settings.errors import UserError
from fedrevive.settings.model import CnnSettings, ConvNetSettings, FedAvgCnnSettings
from fedrevive.tasks.federated import TaskInfo
from fedrevive.tasks.models import build_model, forward_flops

torch.set_num_threads(1)
NORMS = ("none", "batch", "group")


def square(side, channels=1, classes=10):
    return TaskInfo("square", (channels, side, side), classes, (0.0,) * channels, (1.0,) * channels)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("side", [8, 12, 14, 28])
def test_every_size_and_norm_trains_one_step(norm, side):
    model = build_model(CnnSettings(width=8, norm=norm), square(side), seed=1)
    images = torch.randn(5, 1, side, side, generator=torch.Generator().manual_seed(0))
    loss = nn.functional.cross_entropy(model.module(images), torch.arange(5))
    loss.backward()
    assert model.module(images).shape == (5, 10)
    assert torch.isfinite(model.gradient).all()
    assert model.gradient.count_nonzero() > 0.3 * model.spec.parameter_count


def test_three_channels_and_unequal_sides():
    info = TaskInfo("wide", (3, 9, 14), 7, (0.0,) * 3, (1.0,) * 3)
    assert build_model(CnnSettings(), info, 0).module(torch.zeros(2, 3, 9, 14)).shape == (2, 7)


def test_published_size():
    model = build_model(CnnSettings(), square(14), seed=0)
    assert model.spec.parameter_count == 19_178
    assert model.spec.buffer_count == 2 * (16 + 32 + 32)


def test_flops_equal_the_count_by_hand():
    info = square(14)
    model = build_model(CnnSettings(width=16), info, seed=0)
    model.module.train()
    before = model.vector.clone()
    by_hand = 2 * (7 * 7 * 16 * 9 * 1 + 4 * 4 * 32 * 9 * 16 + 4 * 4 * 32 * 9 * 32 + 4 * 4 * 32 * 10)
    assert forward_flops(model, info) == by_hand
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.module.eval()(torch.zeros(1, *info.input_shape))
    model.module.train()
    assert counter.get_total_flops() == by_hand
    assert torch.equal(model.vector, before)
    assert model.module.training


@pytest.mark.parametrize(
    ("norm", "rule", "kinds"),
    [
        ("none", "reset", [FeatureTracker] * 3),
        ("batch", "average", [nn.BatchNorm2d] * 3),
        ("group", "reset", [FeatureTracker] * 3),
    ],
)
def test_statistic_layers_see_the_convolutions_before_relu(norm, rule, kinds):
    model = build_model(CnnSettings(width=8, norm=norm), square(14), seed=0)
    layers = statistic_layers(model.module)
    assert [type(layer) for layer in layers] == kinds
    assert model.spec.buffer_rule == rule
    images = torch.randn(16, 1, 14, 14, generator=torch.Generator().manual_seed(0))
    with recorded_inputs(layers) as inputs:
        model.module(images)
    expected = model.module.conv1(images)
    torch.testing.assert_close(inputs[0], expected)
    assert (inputs[2] < 0).any(), "ReLU must leave the recorded features alone"
    torch.testing.assert_close(layers[0].running_mean, 0.1 * expected.mean(dim=(0, 2, 3)))


def test_group_norm_acts_and_batch_norm_has_no_redundant_bias():
    group = build_model(CnnSettings(width=8, norm="group"), square(14), seed=0)
    assert isinstance(group.module.norm1, nn.GroupNorm)
    images = torch.randn(4, 1, 14, 14, generator=torch.Generator().manual_seed(0))
    assert group.module.norm1(group.module.conv1(10 * images)).std().item() == pytest.approx(1.0, abs=0.01)
    batch = build_model(CnnSettings(width=8, norm="batch"), square(14), seed=0)
    assert batch.module.conv1.bias is None


def test_initial_weights_are_the_seeds_alone():
    settings, info = CnnSettings(width=8), square(14)
    first = build_model(settings, info, seed=5).vector
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    again = build_model(settings, info, seed=5).vector
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(first, again)
    assert not torch.equal(first, build_model(settings, info, seed=6).vector)


def test_initial_weights_are_the_same_in_another_process():
    code = (
        "import sys, torch; torch.manual_seed(1); torch.rand(7)\n"
        "from fedrevive.settings.model import CnnSettings\n"
        "from fedrevive.tasks.federated import TaskInfo\n"
        "from fedrevive.tasks.models import build_model\n"
        "info = TaskInfo('square', (1, 14, 14), 10, (0.0,), (1.0,))\n"
        "sys.stdout.write(build_model(CnnSettings(), info, 5).vector.numpy().tobytes().hex())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    other = np.frombuffer(bytes.fromhex(done.stdout), np.float32)
    np.testing.assert_array_equal(build_model(CnnSettings(), square(14), 5).vector.numpy(), other)


@pytest.mark.parametrize("norm", NORMS)
def test_features_stay_channels_last_from_first_to_last_convolution(norm):
    model = build_model(CnnSettings(width=8, norm=norm), square(14), seed=0)
    with recorded_inputs([model.module.conv2, model.module.conv3, model.module.flatten]) as inputs:
        model.module(torch.zeros(4, 1, 14, 14))
    assert all(features.is_contiguous(memory_format=torch.channels_last) for features in inputs)


def test_the_fedavg_cnn_has_its_published_size():
    model = build_model(FedAvgCnnSettings(), square(28), seed=0)
    assert model.spec.parameter_count == 1_663_370
    assert model.module(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize("norm", NORMS)
def test_the_fedavg_cnn_trains_one_step_on_other_sizes(norm):
    model = build_model(FedAvgCnnSettings(norm=norm), square(14, channels=3, classes=7), seed=1)
    images = torch.randn(5, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    nn.functional.cross_entropy(model.module(images), torch.arange(5)).backward()
    assert torch.isfinite(model.gradient).all()
    assert model.gradient.count_nonzero() > 0.3 * model.spec.parameter_count


def test_the_convnet_has_its_published_size():
    model = build_model(ConvNetSettings(), square(28, classes=62), seed=0)
    assert model.spec.parameter_count == 421_058  # 0.42 M
    assert model.module(torch.zeros(2, 1, 28, 28)).shape == (2, 62)


@pytest.mark.parametrize("norm", NORMS)
def test_the_convnet_trains_one_step_on_other_sizes(norm):
    model = build_model(ConvNetSettings(norm=norm), square(12, channels=3, classes=7), seed=1)
    images = torch.randn(5, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    nn.functional.cross_entropy(model.module(images), torch.arange(5)).backward()
    assert torch.isfinite(model.gradient).all()
    assert model.gradient.count_nonzero() > 0.3 * model.spec.parameter_count


def test_the_convnet_refuses_images_that_are_too_small():
    with pytest.raises(UserError, match=r"model\.name: convnet needs images of 12x12"):
        build_model(ConvNetSettings(), square(8), seed=0)

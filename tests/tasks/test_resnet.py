"""ResNet-18 against torchvision's, changed into the published variant, and as a client model of a real run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.resnet import BasicBlock, ResNet

from fedrevive.algorithms import dispatch_of
from fedrevive.assemble import client_trainer, server
from fedrevive.core.feature_statistics import FeatureTracker, recorded_inputs, statistic_layers
from fedrevive.settings.loading import load
from fedrevive.settings.model import ResNet18Settings
from fedrevive.simulation.executor import InlineExecutor
from fedrevive.simulation.loop import simulate
from fedrevive.simulation.records import ArrivalRecord, FinalRecord
from fedrevive.tasks import load_task
from fedrevive.tasks.federated import TaskInfo
from fedrevive.tasks.models import build_model, forward_flops

torch.set_num_threads(1)
NORMS = ("none", "batch", "group")


def square(side, channels=3, classes=10):
    return TaskInfo("square", (channels, side, side), classes, (0.0,) * channels, (1.0,) * channels)


def images(count, side, channels=3):
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(0))


def torchvisions(norm):
    """The reference: stem, pooling and last layer changed, as everybody does for 32x32."""
    model = ResNet(BasicBlock, [2, 2, 2, 2], 10, norm_layer=norm)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    model.fc = nn.Linear(512, 10, bias=False)
    return model


@pytest.mark.parametrize(
    ("norm", "layer"), [("none", nn.Identity), ("batch", nn.BatchNorm2d)], ids=["none", "batch"]
)
def test_logits_and_gradients_are_torchvisions(norm, layer):
    model = build_model(ResNet18Settings(norm=norm), square(16), seed=3)
    reference = torchvisions(layer)
    for own, other in zip(model.module.parameters(), reference.parameters(), strict=True):
        assert own.shape == other.shape
        other.data.copy_(own.detach())
    batch, labels = images(6, 16).double(), torch.arange(6)
    results = []
    for module in (model.module.double(), reference.double()):
        logits = module.train()(batch)
        nn.functional.cross_entropy(logits, labels).backward()
        results.append((logits.detach(), torch.cat([p.grad.flatten() for p in module.parameters()])))
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-9)
    assert results[0][1].norm() > 1e-3


@pytest.mark.parametrize(("classes", "parameters"), [(10, 11_164_352), (100, 11_210_432)])
def test_published_size(classes, parameters):
    model = build_model(ResNet18Settings(), square(32, classes=classes), seed=0)
    assert model.spec.parameter_count == parameters
    layers = statistic_layers(model.module)
    assert [type(layer) for layer in layers] == [FeatureTracker] * 20
    assert model.spec.buffer_count == 2 * 5 * (64 + 128 + 256 + 512)
    assert model.spec.buffer_rule == "reset"


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("side", "channels"), [(8, 1), (32, 3)])
def test_every_size_and_norm_trains_one_step(norm, side, channels):
    model = build_model(ResNet18Settings(norm=norm), square(side, channels, classes=7), seed=1)
    logits = model.module(images(4, side, channels))
    assert logits.shape == (4, 7)
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    assert torch.isfinite(model.gradient).all()
    assert all(parameter.grad.count_nonzero() for parameter in model.module.parameters())


@pytest.mark.parametrize("norm", NORMS)
def test_statistic_layers_meet_convolutions_in_their_order(norm):
    """Synthesis compares the i-th recorded features with the i-th layer's statistics."""
    model = build_model(ResNet18Settings(norm=norm), square(16), seed=0)
    layers = statistic_layers(model.module)
    assert len(layers) == 20
    with recorded_inputs(layers) as inputs:
        model.module.train()(images(8, 16))
    for layer, features in zip(layers, inputs, strict=True):
        torch.testing.assert_close(
            layer.running_mean, 0.1 * features.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5
        )
        assert (features < 0).any(), "ReLU must leave the recorded features alone"
        assert features.is_contiguous(memory_format=torch.channels_last)


def test_flops_are_torchs_count():
    info = square(32)
    model = build_model(ResNet18Settings(), info, seed=0)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.module.eval()(torch.zeros(1, *info.input_shape))
    assert forward_flops(model, info) == counter.get_total_flops()
    assert round(forward_flops(model, info) / 1e9, 2) == 1.11


def test_initial_weights_are_the_seeds_alone():
    first = build_model(ResNet18Settings(), square(8), seed=5).vector
    torch.manual_seed(99)
    assert torch.equal(first, build_model(ResNet18Settings(), square(8), seed=5).vector)
    assert not torch.equal(first, build_model(ResNet18Settings(), square(8), seed=6).vector)


def test_a_run_gives_the_same_bits_again_and_distils():
    config = load("digits", [
        "model.name=resnet18", "task.clients=8", "server.concurrency=3", "client.local_steps=1", "client.batch_size=8",
        "client.augmentation=crop_flip", "algorithm.augmentation=crop_flip", "algorithm.freeze_versions=0",
        "algorithm.warmup_versions=1", "algorithm.generate_every_versions=1", "algorithm.teacher_capacity=2",
        "algorithm.distill_steps=1", "algorithm.synthesis_batch=8", "algorithm.probe_samples=8", "stop.arrivals=4",
        "evaluation.every_arrivals=4",
    ])  # fmt: skip
    whole = load_task(config.task, config.seed)
    few = np.arange(20)
    data = replace(whole, test=whole.test.take(few), validation=whole.validation.take(few))

    def run() -> list:
        executor = InlineExecutor(server(config, data), client_trainer(config, data))
        return list(simulate(config, dispatch_of(config.algorithm), executor, snapshot_due=lambda _: False))

    first, again = run(), run()
    infos = [[r.applied.info for r in records if isinstance(r, ArrivalRecord)] for records in (first, again)]
    assert infos[0] == infos[1]
    assert len(infos[0]) == 4
    assert infos[0][-1].distill_loss is not None
    assert infos[0][-1].feature_loss is not None
    finals = [records[-1] for records in (first, again)]
    assert all(isinstance(final, FinalRecord) for final in finals)
    np.testing.assert_array_equal(finals[0].model, finals[1].model)

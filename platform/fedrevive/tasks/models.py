"""The networks, by their settings; those of the image tasks that need no file of their own."""

from __future__ import annotations

from collections import OrderedDict
from typing import assert_never

import torch
from torch import Tensor, nn

from fedrevive.core.model_state import FlatModel
from fedrevive.core.seeds import Purpose, derived_seed
from fedrevive.core.text_network import TextNetwork
from fedrevive.core.token_ids import UNKNOWN
from fedrevive.settings.errors import UserError
from fedrevive.settings.model import (
    CnnSettings,
    ConvNetSettings,
    FedAvgCnnSettings,
    ModelSettings,
    Norm,
    ResNet18Settings,
    T5EncoderSettings,
    TextTransformerSettings,
)
from fedrevive.tasks.federated import TaskInfo
from fedrevive.tasks.normalisation import normalisation
from fedrevive.tasks.resnet import ResNet18
from fedrevive.tasks.text_transformer import TextTransformer

STRIDES = (2, 2, 1)
FEDAVG_HIDDEN = 512
CONVNET_CHANNELS, CONVNET_HIDDEN, CONVNET_LEAST = 64, (200, 100), 12
"""Channels and hidden units as published; the third convolution, ours without padding to meet the published number of
parameters, needs 3x3 pixels after two poolings."""


def build_model(
    settings: ModelSettings, info: TaskInfo, seed: int, device: torch.device | str = "cpu"
) -> FlatModel:
    """The task's network with its initial weights, a pure function of the settings and the seed.

    It maps normalised images [B, C, H, W] to logits [B, classes]; the statistic layers sit between convolution
    and ReLU, where the published example has them. Texts: see `core.text_network`.
    """
    with torch.random.fork_rng(devices=[]):
        # The CPU generator alone: torch.manual_seed would reseed the GPUs of this process as well.
        torch.default_generator.manual_seed(derived_seed(seed, Purpose.INITIAL_MODEL))
        module = _network(settings, info)
    batch_norm = any(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())
    return FlatModel(module, "average" if batch_norm else "reset", device)


def forward_flops(model: FlatModel, info: TaskInfo) -> int:
    """Floating-point operations of one sample's forward pass (multiply-add = 2; convolutions and matrix products only).

    Counted by hand rather than by torch.utils.flop_counter (the tests' reference), which imports the compiler:
    150 MB and a second in every server process.
    """
    counts: list[int] = []

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        counts.append(2 * layer.weight[0].numel() * output.numel())

    layers = [layer for layer in model.module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    training = model.module.training
    model.module.eval()  # a counted pass must leave no trace in the feature statistics
    try:
        with torch.inference_mode():
            model.module(_any_sample(info, model.vector.device))
    finally:
        model.module.train(training)
        for hook in hooks:
            hook.remove()
    attention = (
        model.module.attention_flops(info.input_shape[0]) if isinstance(model.module, TextNetwork) else 0
    )
    return sum(counts) + attention


def _any_sample(info: TaskInfo, device: torch.device) -> Tensor:
    if info.vocabulary is not None:
        return torch.full((1, *info.input_shape), UNKNOWN, device=device)
    return torch.zeros(1, *info.input_shape, device=device)


def _network(settings: ModelSettings, info: TaskInfo) -> nn.Module:
    match settings:
        case CnnSettings():
            return _cnn(settings, info)
        case FedAvgCnnSettings():
            return _fedavg_cnn(settings.norm, info)
        case ConvNetSettings():
            return _convnet(settings.norm, info)
        case ResNet18Settings():
            return ResNet18(settings.norm, info)
        case TextTransformerSettings():
            assert info.vocabulary is not None
            return TextTransformer(settings, info.input_shape[0], info.vocabulary, info.classes)
        case T5EncoderSettings():
            from fedrevive.tasks.t5 import T5Classifier

            return T5Classifier(settings, info.classes)
    assert_never(settings)


def _cnn(settings: CnnSettings, info: TaskInfo) -> nn.Sequential:
    channels, height, width = info.input_shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    sizes = (settings.width, 2 * settings.width, 2 * settings.width)
    for number, (size, stride) in enumerate(zip(sizes, STRIDES, strict=True), start=1):
        # BatchNorm subtracts any bias again; Adam would turn its rounding-noise gradient into a random walk.
        bias = settings.norm != "batch"
        layers[f"conv{number}"] = nn.Conv2d(channels, size, 3, stride, padding=1, bias=bias)
        layers.update(normalisation(settings.norm, size, number))
        # Not in place: the recorded input of the statistic layer must survive until the loss reads it.
        layers[f"relu{number}"] = nn.ReLU()
        channels, height, width = size, -(-height // stride), -(-width // stride)
    layers["flatten"] = nn.Flatten()
    layers["head"] = nn.Linear(channels * height * width, info.classes)
    return nn.Sequential(layers)


def _fedavg_cnn(norm: Norm, info: TaskInfo) -> nn.Sequential:
    channels, height, width = info.input_shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, size in enumerate((32, 64), start=1):
        layers[f"conv{number}"] = nn.Conv2d(channels, size, 5, padding=2, bias=norm != "batch")
        layers.update(normalisation(norm, size, number))
        layers[f"relu{number}"] = nn.ReLU()
        layers[f"pool{number}"] = nn.MaxPool2d(2)
        channels, height, width = size, height // 2, width // 2
    layers["flatten"] = nn.Flatten()
    layers["hidden"] = nn.Linear(channels * height * width, FEDAVG_HIDDEN)
    layers["relu_hidden"] = nn.ReLU()
    layers["head"] = nn.Linear(FEDAVG_HIDDEN, info.classes)
    return nn.Sequential(layers)


def _convnet(norm: Norm, info: TaskInfo) -> nn.Sequential:
    channels, height, width = info.input_shape
    if min(height, width) < CONVNET_LEAST:
        raise UserError(
            f"model.name: convnet needs images of {CONVNET_LEAST}x{CONVNET_LEAST} pixels or more, task.name="
            f"{info.name} has {height}x{width}; use cnn"
        )
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number in (1, 2, 3):
        padding = int(number < 3)
        layers[f"conv{number}"] = nn.Conv2d(
            channels, CONVNET_CHANNELS, 3, padding=padding, bias=norm != "batch"
        )
        layers.update(normalisation(norm, CONVNET_CHANNELS, number))
        layers[f"relu{number}"] = nn.ReLU()
        if number < 3:
            layers[f"pool{number}"] = nn.MaxPool2d(2)
            height, width = height // 2, width // 2
        channels = CONVNET_CHANNELS
    layers["flatten"] = nn.Flatten()
    size = channels * (height - 2) * (width - 2)
    for number, units in enumerate(CONVNET_HIDDEN, start=1):
        layers[f"hidden{number}"] = nn.Linear(size, units)
        layers[f"relu_hidden{number}"] = nn.ReLU()
        size = units
    layers["head"] = nn.Linear(size, info.classes)
    return nn.Sequential(layers)

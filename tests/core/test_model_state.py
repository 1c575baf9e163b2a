import copy

import pytest
import torch
from safetensors.torch import load as read_safetensors
from safetensors.torch import save as safetensors_bytes
from torch import nn

from fedrevive.core.feature_statistics import FeatureTracker, batch_norm
from fedrevive.core.model_state import FlatModel

torch.set_num_threads(1)


def network(norm):
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(
            3, 8, 3, padding=1, bias=False
        ),  # Adam turns the noise of a bias before BatchNorm into steps
        norm(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3),
        nn.Flatten(),
        nn.Linear(96, 4),
    )


def batches(count=5):
    generator = torch.Generator().manual_seed(7)
    for _ in range(count):
        yield torch.randn(16, 3, 6, 6, generator=generator), torch.randint(4, (16,), generator=generator)


def optimizer_on_flat(flat, kind, **options):
    parameter = nn.Parameter(flat.parameters)
    parameter.grad = flat.gradient
    return kind([parameter], **options)


@pytest.fixture(params=[FeatureTracker, batch_norm], ids=["tracker", "batch_norm"])
def norm(request):
    return request.param


def assert_same_state(flat, reference):
    expected = reference.state_dict()
    assert flat.state_dict().keys() == expected.keys()
    for name, value in flat.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "options"), [(torch.optim.Adam, {"lr": 1e-3}), (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9})]
)
def test_one_flat_optimizer_step_equals_the_per_parameter_one(norm, kind, options):
    reference = network(norm)
    flat = FlatModel(copy.deepcopy(reference), "average")
    ordinary, on_flat = kind(reference.parameters(), **options), optimizer_on_flat(flat, kind, **options)
    for images, labels in batches():
        for module, optimizer in ((reference, ordinary), (flat.module, on_flat)):
            optimizer.zero_grad(set_to_none=False)
            nn.functional.cross_entropy(module(images), labels).backward()
            optimizer.step()
    assert_same_state(flat, reference)
    assert flat.buffers.abs().sum() > 0


def test_running_statistics_live_in_the_vector(norm):
    flat = FlatModel(network(norm), "average")
    start = flat.buffers.clone()
    torch.testing.assert_close(start, torch.cat([torch.zeros(8), torch.ones(8)]))
    images, _ = next(batches())
    flat.module(images)
    assert not torch.equal(flat.buffers, start)
    torch.testing.assert_close(flat.buffers[:8], flat.module[1].running_mean, rtol=0, atol=0)
    trained = flat.buffers.clone()
    flat.module.eval()
    flat.module(images)
    assert torch.equal(flat.buffers, trained)


def test_batch_norm_in_eval_mode_reads_loaded_buffers():
    flat = FlatModel(network(batch_norm), "average")
    images, _ = next(batches())
    flat.module.eval()
    before = flat.module(images)
    vector = flat.vector.clone()
    vector[flat.spec.parameter_count :] += 0.5
    flat.load(vector)
    assert not torch.allclose(flat.module(images), before)


def test_every_parameter_gradient_and_buffer_is_a_view(norm):
    flat = FlatModel(network(norm), "reset")
    flat.vector.fill_(2.0)
    flat.gradient.fill_(-1.0)
    tensors = [*flat.module.parameters(), *flat.module.buffers()]
    assert all((tensor == 2.0).all() for tensor in tensors)
    assert all((parameter.grad == -1.0).all() for parameter in flat.module.parameters())
    with torch.no_grad():
        for number, tensor in enumerate(tensors):
            tensor.fill_(float(number))
    expected = torch.cat([torch.full((tensor.numel(),), float(n)) for n, tensor in enumerate(tensors)])
    assert torch.equal(flat.vector, expected)
    assert flat.spec.size == len(flat.vector) == len(flat.parameters) + len(flat.buffers)


def test_backward_adds_into_the_flat_gradient_and_keeps_the_views():
    flat = FlatModel(network(FeatureTracker), "reset")
    images, labels = next(batches())
    nn.functional.cross_entropy(flat.module(images), labels).backward()
    once = flat.gradient.clone()
    nn.functional.cross_entropy(flat.module(images), labels).backward()
    torch.testing.assert_close(flat.gradient, 2 * once)
    assert once.count_nonzero() > 0.5 * len(once)
    flat.gradient.zero_()
    assert all(parameter.grad.count_nonzero() == 0 for parameter in flat.module.parameters())


def test_load_copies_one_model_into_another(norm):
    source, target = FlatModel(network(norm), "average"), FlatModel(network(norm), "average")
    images, _ = next(batches())
    source.vector.mul_(1.5)
    target.load(source.vector)
    source.module.eval()
    target.module.eval()
    torch.testing.assert_close(target.module(images), source.module(images), rtol=0, atol=0)
    source.vector.zero_()
    assert target.vector.abs().sum() > 0


@pytest.mark.parametrize("length", [1, 5])
def test_load_refuses_another_length(length):
    flat = FlatModel(network(FeatureTracker), "reset")
    with pytest.raises(ValueError, match=rf"\[{length}\].*\[{flat.spec.size}\]"):
        flat.load(torch.zeros(length))


def test_state_dict_round_trip_through_safetensors(norm):
    flat = FlatModel(network(norm), "average")
    images, _ = next(batches())
    flat.module(images)
    named = read_safetensors(safetensors_bytes(flat.state_dict()))
    assert [(name, tuple(named[name].shape)) for name, _ in flat.spec.parameters] == list(
        flat.spec.parameters
    )
    other = network(norm)
    other.load_state_dict(named)
    copied = FlatModel(other, "average")
    assert torch.equal(copied.vector, flat.vector)


def test_state_dict_is_a_copy_in_ordinary_order():
    flat = FlatModel(network(FeatureTracker), "reset")
    named = flat.state_dict()
    assert all(value.is_contiguous() and not value.requires_grad for value in named.values())
    kept = {name: value.clone() for name, value in named.items()}
    flat.vector.zero_()
    assert all(torch.equal(named[name], kept[name]) for name in named)


def test_adoption_keeps_the_values_and_stores_convolutions_channels_last():
    reference = network(FeatureTracker)
    flat = FlatModel(copy.deepcopy(reference), "reset")
    assert_same_state(flat, reference)
    for convolution in (flat.module[0], flat.module[3]):
        for tensor in (convolution.weight, convolution.weight.grad):
            assert tensor.is_contiguous(memory_format=torch.channels_last)
            assert not tensor.is_contiguous()
    first = reference[0].weight.permute(0, 2, 3, 1).reshape(-1)
    assert torch.equal(flat.vector[: first.numel()], first)


def test_integer_buffers_are_refused_by_name():
    with pytest.raises(TypeError, match="num_batches_tracked"):
        FlatModel(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), "average")

"""DD-FedRevive: a trace by hand, a slow float64 form of its step, its limits, and who may build it."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedrevive.algorithms import STATE_TYPES, build_algorithm
from fedrevive.algorithms.server_algorithm import Oracle
from fedrevive.assemble import server
from fedrevive.core.messages import ModelSnapshot
from fedrevive.core.seeds import Purpose, torch_generator
from fedrevive.core.state_tree import decode, encode
from fedrevive.core.synthetic_pool import SyntheticPool, draw_by_class
from fedrevive.settings.algorithm import FedBuffSettings
from fedrevive.settings.loading import load
from fedrevive.settings.peers import DdFedReviveSettings
from fedrevive.settings.schedules import ConstantBeta, OneMinusCosineBeta

SETTINGS = DdFedReviveSettings(
    teacher_capacity=3, warmup_versions=4, distill_steps=3, distill_batch=4, distill_lr=1e-3
)


def seeing(context, clients: int = 6, images: int = 30):
    """The context with an oracle of random images and uneven histograms."""
    random = np.random.default_rng(2)
    pixels = random.integers(0, 256, (images, *context.input_shape), dtype=np.uint8)
    labels = torch.from_numpy(np.arange(images) % context.classes)
    histograms = torch.from_numpy(random.integers(1, 9, (clients, context.classes)))
    return replace(context, oracle=Oracle(histograms, torch.from_numpy(pixels), labels))


def driven(config_of, context, update_of, settings, arrivals, **server_settings):
    """Every upload from the base of three versions ago: [(state before, base, update, state after, info)]."""
    algorithm = build_algorithm(config_of(settings, **server_settings), context)
    states, steps = [algorithm.init()], []
    for job in range(arrivals):
        seen = states[max(0, job - 3)]
        base = ModelSnapshot(seen.version, seen.model.numpy().copy())
        update = update_of(base, context, job % 6, job)
        after, info = algorithm.apply(states[-1], base, update)
        steps.append((states[-1], base, update, after, info))
        states.append(after)
    return steps


def test_one_step_by_hand(trace, two_logits) -> None:
    # Two parameters that are the two logits of a white pixel. Upload 1 is fresh: x = (2, 0). Upload 2 brings (0, 4)
    # from (0, 0), and is the only teacher (c = 1): it prefers class 1, the student class 0, so one Adam step moves
    # the student by (-1/8, 1/8). Half of each: (0, 2) + (-1/16, 1/16).
    white = torch.full((2, 1, 1, 1), 255, dtype=torch.uint8)
    oracle = Oracle(torch.ones(2, 2, dtype=torch.int64), white, torch.tensor([0, 1]))
    settings = DdFedReviveSettings(
        teacher_capacity=1, warmup_versions=0, distill_steps=1, distill_lr=0.125, distill_weight_decay=0.0
    )
    steps = trace(settings, [(0, 0), (1, 0)], context=two_logits(oracle), lr=1.0)
    models, info = [state.model.tolist() for state, _ in steps], steps[-1][1]
    np.testing.assert_allclose(models, [[2, 0], [2 - 1 / 16, 2 + 1 / 16]], atol=1e-5)
    assert (info.staleness, info.beta, info.teachers) == (1, 0.5, 1)


def slow_delta(context, settings, state, update, after) -> np.ndarray:
    """Distilled delta [P] in float64, teacher by teacher and step by step."""
    oracle, count = context.oracle, context.spec.parameter_count

    def module_of(vector):
        model = context.new_model()
        model.load(torch.as_tensor(vector))
        return copy.deepcopy(model.module).double()

    teachers = [module_of(teacher.model).eval() for teacher in after.memory.teachers]
    student = module_of(state.model).train()
    counts = oracle.class_histograms[[teacher.client_id for teacher in after.memory.teachers]].double()
    proportions = (counts / counts.sum(dim=1, keepdim=True)).float()
    images = oracle.kd_inputs.double() / 255
    drawn = draw_by_class(
        SyntheticPool(images, oracle.kd_labels),
        proportions,
        settings.distill_steps * settings.distill_batch,
        torch_generator(context.seed, Purpose.DISTILLATION, nth=state.arrivals),
    ).view(len(teachers), settings.distill_steps, settings.distill_batch)
    parameters = list(student.parameters())
    start = torch.cat([p.detach().flatten() for p in parameters])
    first, second = torch.zeros_like(start), torch.zeros_like(start)
    temperature = settings.distill_temperature
    for step in range(settings.distill_steps):
        total = torch.zeros((), dtype=torch.float64)
        for teacher, own in zip(teachers, drawn, strict=True):
            for position in own[step].tolist():
                inputs = (images[position : position + 1] - context.mean[0]) / context.std[0]
                target = F.softmax(teacher(inputs) / temperature, dim=1)
                answer = F.log_softmax(student(inputs) / temperature, dim=1)
                total = total + temperature**2 * (target * (target.log() - answer)).sum()
        total = total / drawn[:, step].numel()
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(total, parameters)])
        current = torch.cat([p.detach().flatten() for p in parameters])
        gradient = gradient + settings.distill_weight_decay * current
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        scale = (second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
        current = current - settings.distill_lr * first / (1 - 0.9 ** (step + 1)) / scale
        nn.utils.vector_to_parameters(current, parameters)
    delta = torch.cat([p.detach().flatten() for p in parameters]) - start
    return flat_order(context, delta, count)


def flat_order(context, delta, count) -> np.ndarray:
    """From the order of `module.parameters()` to that of the flat vector (convolutions are channels last there)."""
    parts, offset = [], 0
    for _, shape in context.spec.parameters:
        size = int(np.prod(shape))
        part = delta[offset : offset + size].view(shape)
        parts.append((part.permute(0, 2, 3, 1) if len(shape) == 4 else part).flatten())
        offset += size
    assert offset == count
    return torch.cat(parts).numpy()


def test_a_step_equals_the_slow_one(config_of, context_of, update_of) -> None:
    context = seeing(context_of())
    count = context.spec.parameter_count
    steps = driven(config_of, context, update_of, SETTINGS, 9, lr=1.0)
    state, base, update, after, info = steps[-1]
    assert (info.staleness, info.teachers, info.beta) == (3, 3, 0.5)
    expected = slow_delta(context, SETTINGS, state, update, after)
    client_delta = update.model[:count].astype(np.float64) - base.model[:count]
    moved = (after.model[:count] - state.model[:count]).numpy()
    assert np.abs(expected).max() > 1e-4
    np.testing.assert_allclose(moved, 0.5 * client_delta + 0.5 * expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS.model_copy(update={"warmup_versions": 100}),
        SETTINGS.model_copy(update={"beta": ConstantBeta(value=0.0)}),
    ],
)
def test_without_distillation_it_is_fedbuff_in_every_bit(settings, config_of, context_of, update_of) -> None:
    context = seeing(context_of())
    ours = driven(config_of, context, update_of, settings, 10)
    raw = driven(config_of, context, update_of, FedBuffSettings(), 10)
    assert all(torch.equal(a[3].model, b[3].model) for a, b in zip(ours, raw, strict=True))
    assert all(step[4].server_flops == 0 for step in ours)


def test_apply_is_pure_and_survives_a_snapshot(config_of, context_of, update_of) -> None:
    context = seeing(context_of())
    settings = SETTINGS.model_copy(update={"beta": OneMinusCosineBeta(half_staleness=2.0)})
    config = config_of(settings)
    for state, base, update, after, info in driven(config_of, context, update_of, settings, 9)[::2]:
        structure, arrays = encode(state)
        restored = decode(json.loads(json.dumps(structure)), arrays, STATE_TYPES, context.device)
        for same in (state, restored):
            again, told = build_algorithm(config, seeing(context_of())).apply(same, base, update)
            assert torch.equal(again.model, after.model)
            assert told == info
            assert json.dumps(encode(again)[0]) == json.dumps(encode(after)[0])


def test_every_arrival_distils_on_batches_of_its_own(config_of, context_of, update_of) -> None:
    context = seeing(context_of())
    state, base, update, *_ = driven(config_of, context, update_of, SETTINGS, 9)[-1]
    algorithm = build_algorithm(config_of(SETTINGS), context)
    losses = {
        algorithm.apply(replace(state, arrivals=state.arrivals + later), base, update)[1].distill_loss
        for later in (0, 1)
    }
    assert None not in losses
    assert len(losses) == 2


def test_the_guard_remembers_losses_and_refuses_a_jump(config_of, context_of, update_of) -> None:
    context = seeing(context_of())
    remembered: tuple[float, ...] = ()
    for *_, after, info in driven(config_of, context, update_of, SETTINGS, 12):
        windows = after.memory.loss_windows
        if info.distill_loss is not None:
            new = windows["distillation"][-3:]
            assert sum(new) / 3 == pytest.approx(info.distill_loss, rel=1e-5)
            remembered = (remembered + new)[-20:]
        assert windows.get("distillation", ()) == remembered
    assert len(remembered) == 20
    base = ModelSnapshot(after.version - 3, context.initial_model.numpy())
    update = update_of(base, context, 1, 99)
    update = replace(update, model=10 * update.model)
    for guard, beta in ((True, 0.0), (False, 0.5)):
        settings = SETTINGS.model_copy(update={"loss_guard": guard})
        state, info = build_algorithm(config_of(settings), context).apply(after, base, update)
        assert (info.beta, info.distill_loss is None) == (beta, guard)
        assert state.memory.loss_windows == windows


def test_uniform_proportions_do_not_look_at_histograms(config_of, context_of, update_of) -> None:
    context = seeing(context_of())
    other = replace(
        context, oracle=replace(context.oracle, class_histograms=context.oracle.class_histograms.flip(1))
    )

    def last(world, proportions):
        settings = SETTINGS.model_copy(update={"proportions": proportions})
        return driven(config_of, world, update_of, settings, 8)[-1][3].model

    assert torch.equal(last(context, "uniform"), last(other, "uniform"))
    assert not torch.equal(last(context, "oracle"), last(other, "oracle"))


def test_a_server_without_data_cannot_be_an_oracle(config_of, context_of) -> None:
    with pytest.raises(ValueError, match="distils on the KD split"):
        build_algorithm(config_of(SETTINGS), context_of())
    with pytest.raises(ValueError, match="need an oracle"):
        server(load("digits", ["algorithm.name=dd_fedrevive"]), None)

"""FedRevive against slow forms: where the student starts, and the controls that pull without distilling."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from fedrevive.algorithms import build_algorithm
from fedrevive.core.augmentation import build_augmentation
from fedrevive.core.distillation import DistillationSetup, distill
from fedrevive.core.loss_guard import LossGuard
from fedrevive.core.messages import ModelSnapshot
from fedrevive.core.probe_log import ProbeIndex
from fedrevive.core.seeds import Purpose, torch_generator
from fedrevive.core.teachers import Ensemble
from fedrevive.settings.fedrevive import ServerEmaReviver, TeacherMeanReviver
from fedrevive.settings.schedules import ConstantBeta


def slow_student(before, settings, context, start) -> torch.Tensor:
    """The distilled delta [P] of an arrival whose state afterwards is `before.memory`, from a given start."""
    memory = before.memory
    models = [context.new_model() for _ in memory.teachers]
    for model, teacher in zip(models, memory.teachers, strict=True):
        model.load(teacher.model)
        model.module.eval().requires_grad_(False)
    clients = [teacher.client_id for teacher in memory.teachers]
    ensemble = Ensemble(models, ProbeIndex().proportions(memory.proportions, clients))
    student = context.new_model()
    student.load(start)
    random = torch_generator(context.seed, Purpose.DISTILLATION, nth=before.arrivals - 1)
    augment = build_augmentation("none", context.mean, context.std, context.device)
    done = distill(
        DistillationSetup(settings, augment), student, ensemble, memory.pool, LossGuard({}), random
    )
    assert done is not None
    return done.delta


@pytest.mark.parametrize("updates", [1, 2])
def test_current_distils_the_server_model_and_blends(
    updates: int, small, drive, config_of, context_of, update_of
) -> None:
    settings = small(beta=ConstantBeta(value=0.3), warmup_versions=2, loss_guard=False)
    context = context_of()
    count = context.spec.parameter_count
    algorithm = build_algorithm(config_of(settings, lr=0.25, updates=updates), context)
    state = drive(settings, arrivals=6 * updates, lr=0.25, updates=updates)[-1][0]
    assert (state.pending, state.version) == (0, 6)
    base = ModelSnapshot(
        3, context.initial_model.numpy()
    )  # stale: not the server's model, as the upload is not
    old, mixed = state.model, []
    for job in range(updates):
        update = update_of(base, context, job, 50 + job)
        client = torch.tensor(update.model[:count] - base.model[:count]).double()
        state, info = algorithm.apply(state, base, update)
        delta = slow_student(state, settings, context, old).double()
        assert info.distilled_delta_norm == pytest.approx(float(delta.norm()), rel=1e-5)
        assert float(delta.abs().max()) > 1e-4
        mixed.append(0.7 * client + 0.3 * delta)
    expected = old[:count].double() + 0.25 * sum(mixed) / updates
    torch.testing.assert_close(state.model[:count].double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("updates", [1, 2])
def test_stepped_distils_after_the_raw_step_and_adds_everything(
    small, updates: int, drive, config_of, context_of, update_of
) -> None:
    settings = small(distill_from="stepped", warmup_versions=2, loss_guard=False)
    context = context_of()
    count = context.spec.parameter_count
    algorithm = build_algorithm(config_of(settings, lr=0.25, updates=updates), context)
    state = drive(settings, arrivals=6 * updates, lr=0.25, updates=updates)[-1][0]
    assert (state.pending, state.version) == (0, 6)
    base = ModelSnapshot(state.version, state.model.numpy())  # fresh: stepped has no beta to spare it
    old, deltas = state.model.double(), []
    for job in range(updates):
        update = update_of(base, context, job, 50 + job)
        deltas.append(torch.tensor(update.model[:count]).double() - old[:count])
        state, info = algorithm.apply(state, base, update)
        assert info.beta is None
        assert (info.distilled_delta_norm is not None) == (job + 1 == updates)
    stepped = old[:count] + 0.25 * sum(deltas) / updates
    delta = slow_student(state, settings, context, torch.cat([stepped.float(), old[count:].float()]))
    torch.testing.assert_close(state.model[:count].double(), stepped + delta.double(), atol=1e-5, rtol=0)
    assert info.distilled_delta_norm == pytest.approx(float(delta.norm()), rel=1e-3)
    assert float(delta.abs().max()) > 1e-4


def test_teacher_mean_equals_the_slow_form(small, drive, context_of) -> None:
    count = context_of().spec.parameter_count
    settings = small(reviver=TeacherMeanReviver(pull=0.3), beta=ConstantBeta(value=0.6))
    plain_steps = drive(small(reviver=TeacherMeanReviver(pull=0.0), warmup_versions=999), arrivals=9)
    steps = drive(settings, arrivals=9)
    pulled = 0
    for (before, _), (state, info) in pairwise(steps):
        assert len(state.memory.teachers) == min(3, state.arrivals)
        assert info.teachers == (3 if info.server_version > 4 else None)
        if info.beta == 0:
            continue
        pulled += 1
        goal = sum(teacher.model[:count].double() for teacher in state.memory.teachers) / info.teachers
        pull = 0.3 * (goal - before.model[:count].double())
        moved = (state.model - before.model)[:count].double() / 0.5
        client = (moved - 0.6 * pull) / 0.4
        assert float(client.norm()) == pytest.approx(info.client_delta_norm, rel=1e-4)
        assert float(pull.norm()) == pytest.approx(info.distilled_delta_norm, rel=1e-4)
        cosine = float(torch.dot(client, pull) / client.norm() / pull.norm())
        assert info.delta_cosine == pytest.approx(cosine, abs=1e-4)
        assert info.distill_loss is None
        assert info.server_flops == 0
    assert pulled == 4
    assert all(info.beta == 0 for _, info in plain_steps)


@pytest.mark.parametrize("updates", [1, 2])
def test_server_ema_equals_the_slow_weighted_mean(small, updates: int, drive, context_of) -> None:
    count = context_of().spec.parameter_count
    settings = small(reviver=ServerEmaReviver(pull=0.5, decay=0.8), beta=ConstantBeta(value=0.6))
    steps = drive(settings, arrivals=9 * updates, updates=updates)
    models = {0: context_of().initial_model[:count].double()}
    for state, info in steps:
        version = info.server_version
        weights = [(1 - 0.8) * 0.8 ** (version - v) for v in range(version + 1)]
        expected = sum(w * models[v] for v, w in enumerate(weights)) / sum(weights)
        torch.testing.assert_close(state.memory.average.double(), expected, atol=1e-5, rtol=0)
        if info.beta:
            pull = 0.5 * (expected - models[version])
            assert info.distilled_delta_norm == pytest.approx(float(pull.norm()), rel=1e-3)
        models[state.version] = state.model[:count].double()
    assert steps[-1][1].beta == 0.6

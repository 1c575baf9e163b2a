"""FedRevive: its phases, its limits, and what its state must survive."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedrevive.algorithms import STATE_TYPES, build_algorithm
from fedrevive.core.messages import ModelSnapshot
from fedrevive.core.probe_log import ProbeIndex
from fedrevive.core.state_tree import decode, encode
from fedrevive.settings.algorithm import AflDwSettings, FedBuffSettings
from fedrevive.settings.fedrevive import SynthesisWeights
from fedrevive.settings.schedules import ConstantBeta, OneMinusCosineBeta


def models(steps) -> list[torch.Tensor]:
    return [state.model for state, _ in steps]


def same_bits(left, right) -> bool:
    """Equal in every bit, minus zero and NaN included."""
    pairs = zip(models(left), models(right), strict=True)
    return all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in pairs)


def test_phases_begin_at_their_versions(small, drive) -> None:
    steps = drive(small(freeze_versions=4, warmup_versions=7), arrivals=14)
    for state, info in steps:
        due = info.staleness > 0 and info.server_version >= 4 and info.server_version % 2 == 0
        assert (info.synthesis_loss is not None) == due
        assert (info.adversarial_loss is not None) == (due and info.server_version >= 7)
        distils = info.staleness > 0 and info.server_version > 7
        assert (info.distill_loss is not None) == distils
        assert (info.beta > 0) == distils
        assert info.teachers == (min(3, state.arrivals) if info.server_version >= 4 else None)
        assert (info.proportion_entropy is None) == (info.teachers is None)
        assert info.pool_size == len(state.memory.pool)
    assert {info.distill_loss is not None for _, info in steps} == {True, False}
    assert max(info.pool_size for _, info in steps) == 20


def test_teachers_are_newest_first_and_are_the_clients_models(small, drive, context_of) -> None:
    for state, info in drive(small(), arrivals=6):
        jobs = [teacher.job for teacher in state.memory.teachers]
        assert jobs == list(range(state.arrivals - 1, max(-1, state.arrivals - 4), -1))
        assert info.teachers == (len(jobs) if info.server_version >= 2 else None)
        assert all(teacher.model.shape == (context_of().spec.size,) for teacher in state.memory.teachers)


def test_proportions_freeze_after_two_uploads(small, drive) -> None:
    logs = [
        state.memory.proportions for state, _ in drive(small(), arrivals=25)
    ]  # client 0: jobs 0, 6, 12, ...
    assert [int((logs[i].clients == 0).sum()) for i in (0, 5, 6, 24)] == [1, 1, 2, 2]
    assert logs[-1].clients.tolist() == [0, 1, 2, 3, 4, 5] * 2
    known = [ProbeIndex().proportions(log, [0]) for log in logs]
    assert not torch.equal(known[0], known[6])
    assert torch.equal(known[6], known[24])
    assert all(torch.equal(logs[-1].totals[: len(log)], log.totals) for log in logs)


def test_mixed_delta_is_the_papers_equation(small, config_of, context_of, update_of) -> None:
    settings = small(beta=ConstantBeta(value=0.3), freeze_versions=0, warmup_versions=0)
    context = context_of()
    count = context.spec.parameter_count
    algorithm = build_algorithm(config_of(settings, lr=1.0), context)
    state = algorithm.init()
    base = ModelSnapshot(0, state.model.numpy())
    for job in range(3):
        before = state
        update = update_of(base, context, job, job)
        state, info = algorithm.apply(state, base, update)
    delta = torch.from_numpy(update.model[:count] - base.model[:count])
    moved = state.model[:count] - before.model[:count]
    distilled = (moved - 0.7 * delta) / 0.3
    assert info.beta == 0.3
    assert float(distilled.norm()) == pytest.approx(info.distilled_delta_norm, rel=1e-3)
    cosine = float(torch.cosine_similarity(distilled, delta, dim=0))
    assert info.delta_cosine == pytest.approx(cosine, abs=1e-3)
    assert 0 < float(distilled.abs().max()) <= 3 * 1.1e-3  # three Adam steps of 1e-3


def test_beta_zero_is_fedbuff_in_every_bit(small, drive) -> None:
    never = drive(small(beta=ConstantBeta(value=0.0)), arrivals=20)
    assert same_bits(never, drive(FedBuffSettings(), arrivals=20))
    assert all(info.beta == 0 and info.synthesis_loss is None for _, info in never)


@pytest.mark.parametrize("beta", [OneMinusCosineBeta(half_staleness=1.5), ConstantBeta(value=1.0)])
@pytest.mark.parametrize("freeze", [0, 1_000])
def test_no_distill_steps_is_afl_dw_in_every_bit(small, drive, beta, freeze: int) -> None:
    left = drive(small(beta=beta, distill_steps=0, freeze_versions=freeze), arrivals=20)
    right = drive(AflDwSettings(beta=beta, warmup_versions=4), arrivals=20)
    assert same_bits(left, right)
    assert [info.beta for _, info in left] == [info.beta for _, info in right]
    assert (left[-1][1].pool_size == 0) == (freeze == 1_000)


def test_an_empty_pool_keeps_the_raw_update(small, drive) -> None:
    raw = drive(small(freeze_versions=1_000), arrivals=15)
    assert same_bits(raw, drive(FedBuffSettings(), arrivals=15))
    assert all(info.beta == 0 for _, info in raw)


def test_one_client_at_a_time_is_never_stale_and_never_distilled(small, drive) -> None:
    steps = drive(small(freeze_versions=0, warmup_versions=0), arrivals=12, concurrency=1)
    assert all(info.staleness == 0 and info.beta == 0 for _, info in steps)
    assert same_bits(steps, drive(FedBuffSettings(), arrivals=12, concurrency=1))


def test_one_generator_round_per_version_with_several_updates(small, drive) -> None:
    steps = drive(small(freeze_versions=2, generate_every_versions=1), arrivals=24, updates=3)
    rounds = [info.server_version for _, info in steps if info.synthesis_loss is not None]
    assert rounds == sorted(set(rounds))
    assert rounds
    assert steps[-1][0].version == 8


def test_statistics_of_synthetic_images_reach_no_model(small, drive, context_of) -> None:
    """Here the clients' buffers depend on the job alone, so the servers' may not depend on distillation."""
    count = context_of("batch").spec.parameter_count
    plain = drive(small(beta=ConstantBeta(value=0.0)), arrivals=12, norm="batch")
    distilled = drive(small(beta=ConstantBeta(value=0.5)), arrivals=12, norm="batch")
    assert distilled[-1][1].distill_loss is not None
    for left, right in zip(models(plain), models(distilled), strict=True):
        assert torch.equal(left[count:], right[count:])
    assert not torch.equal(plain[-1][0].model, distilled[-1][0].model)


def test_apply_twice_gives_the_same_bits_and_changes_no_argument(
    encoded, small, config_of, context_of, update_of, drive
) -> None:
    context = context_of()
    algorithm = build_algorithm(config_of(small()), context)
    for state, _ in drive(small(), arrivals=13)[::3]:
        base = ModelSnapshot(max(0, state.version - 3), context.initial_model.numpy())
        update = update_of(base, context, 1, 99)
        before = encoded(state)
        first, first_info = algorithm.apply(state, base, update)
        algorithm.apply(first, base, update_of(base, context, 2, 100))
        second, second_info = algorithm.apply(state, base, update)
        assert first_info == second_info
        assert encoded(first) == encoded(second)
        assert encoded(state) == before


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_state_survives_copying_and_saving_at_any_arrival(
    encoded, small, config_of, context_of, update_of, drive, norm: str
) -> None:
    """A fresh server continues from a copied or decoded state as the one that never stopped."""
    context = context_of(norm)
    uninterrupted = build_algorithm(config_of(small()), context)
    for state, _ in drive(small(), arrivals=15, norm=norm)[5:]:
        structure, arrays = encode(state)
        decoded = decode(json.loads(json.dumps(structure)), arrays, STATE_TYPES, context.device)
        base = ModelSnapshot(max(0, state.version - 3), context.initial_model.numpy())
        update = update_of(base, context, 1, 99)
        expected = encoded(uninterrupted.apply(state, base, update)[0])
        for restored in (copy.deepcopy(state), decoded):
            fresh = build_algorithm(config_of(small()), context_of(norm))
            assert encoded(fresh.apply(restored, base, update)[0]) == expected


def test_every_arrival_distils_on_batches_of_its_own(small, config_of, context_of, update_of, drive) -> None:
    context = context_of()
    algorithm = build_algorithm(config_of(small()), context)
    state = drive(small(), arrivals=13)[-1][0]
    base = ModelSnapshot(state.version - 3, context.initial_model.numpy())
    update = update_of(base, context, 1, 99)
    losses = [
        algorithm.apply(replace(state, arrivals=state.arrivals + later), base, update)[1].distill_loss
        for later in (0, 1)
    ]
    assert None not in losses
    assert losses[0] != losses[1]


def test_the_global_generator_is_never_touched(small, drive) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = drive(small(), arrivals=12)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same_bits(first, drive(small(), arrivals=12))


@pytest.mark.parametrize("guard", [True, False])
def test_a_teacher_that_is_not_finite_leaves_the_raw_update(
    small, config_of, context_of, update_of, drive, guard: bool
) -> None:
    context = context_of()
    algorithm = build_algorithm(config_of(small(loss_guard=guard), lr=0.5), context)
    state = drive(small(), arrivals=13)[-1][0]
    poisoned = state.memory.teachers[0]
    poisoned = replace(poisoned, model=torch.full_like(poisoned.model, math.nan))
    state = replace(state, memory=replace(state.memory, teachers=(poisoned, *state.memory.teachers[1:])))
    base = ModelSnapshot(state.version - 3, context.initial_model.numpy())
    after, info = algorithm.apply(state, base, update_of(base, context, 1, 99))
    assert bool(torch.isfinite(after.model).all())
    assert bool(torch.isfinite(after.memory.generator.parameters).all())
    assert bool(torch.isfinite(after.memory.pool.samples).all())
    assert np.isfinite(info.client_delta_norm)


def test_server_work_is_counted(small, drive, context_of) -> None:
    forward = context_of().forward_flops
    steps = drive(small(weights=SynthesisWeights(adversarial=0.0), freeze_versions=4), arrivals=25)
    probing = [info.server_flops for _, info in steps if info.server_version < 4]
    assert probing == [8 * forward] * len(probing)  # first uploads of clients 0..5
    distilling = [
        info.server_flops
        for _, info in steps
        if info.distill_loss is not None and info.synthesis_loss is None and info.server_version >= 12
    ]
    assert distilling
    assert set(distilling) == {3 * 4 * 3 * 4 * forward}

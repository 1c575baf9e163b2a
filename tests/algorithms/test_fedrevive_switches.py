"""FedRevive's switches and controls: each does what it says, is pure, and resumes."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from fedrevive.algorithms import STATE_TYPES, build_algorithm
from fedrevive.algorithms.server_algorithm import needs_oracle
from fedrevive.core.beta_rule import beta_rule
from fedrevive.core.messages import ModelSnapshot
from fedrevive.core.state_tree import decode, encode
from fedrevive.settings.algorithm import AflDwSettings
from fedrevive.settings.fedrevive import ConvexReptile, ServerEmaReviver, TeacherMeanReviver
from fedrevive.settings.schedules import RunningQuantileBeta, StepwiseBeta, VarianceDrivenBeta

ARRIVALS = 11
"""The loss guard then knows ten losses, so that it can judge."""
SWITCHES = {
    "oracle": {"proportions": "oracle"},
    "uniform": {"proportions": "uniform"},
    "floor": {"probe_floor": 0.3},
    "labels": {"labels": "uniform"},
    "unweighted": {"class_weights": False},
    "noise": {"pool": "noise"},
    "real": {"pool": "real"},
    "convex": {"reptile": ConvexReptile()},
    "sgd": {"distill_optimizer": "sgd", "distill_lr": 0.1},
    "augmented": {"augmentation": "crop_flip"},
    "distill-augmented": {"distill_augmentation": "crop_flip"},
    "random-teachers": {"teachers": "random_weights"},
    "stepped": {"distill_from": "stepped"},
    "teacher-mean": {"reviver": TeacherMeanReviver()},
    "server-ema": {"reviver": ServerEmaReviver()},
    "stepwise": {"beta": StepwiseBeta(thresholds=(1, 2, 3, 4))},
    "quantile": {"beta": RunningQuantileBeta(window=6)},
    "variance": {"beta": VarianceDrivenBeta(window=6)},
    "no-gates": {"freeze_versions": 0, "warmup_versions": 0, "generate_every_versions": 1},
    "unguarded": {"loss_guard": False},
}


@pytest.fixture(scope="module")
def plain(small, drive):
    return drive(small(), arrivals=ARRIVALS)


@pytest.fixture(scope="module")
def arriving(context_of, update_of):
    """arriving(state) -> a stale base and what a client made of it; far off, so that the loss guard has work to do."""

    def upload(state):
        base = ModelSnapshot(max(0, state.version - 3), context_of().initial_model.numpy())
        update = update_of(base, context_of(), 1, 99)
        return base, replace(update, model=10 * update.model)

    return upload


@pytest.fixture(scope="module")
def plain_afterwards(small, plain, arriving, config_of, context_of):
    """The model of `plain` after one more upload."""
    state = plain[-1][0]
    return build_algorithm(config_of(small()), context_of()).apply(state, *arriving(state))[0].model


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_changes_the_run_is_pure_and_resumes(
    switch: str, small, plain_afterwards, arriving, drive, config_of, context_of, oracle_of, encoded
) -> None:
    settings = small(**SWITCHES[switch])
    state, info = drive(settings, arrivals=ARRIVALS)[-1]
    assert bool(torch.isfinite(state.model).all())
    assert info.distilled_delta_norm is not None
    assert info.distilled_delta_norm > 0
    context = context_of(oracle=oracle_of() if needs_oracle(settings) else None)
    base, update = arriving(state)
    before = encoded(state)
    algorithm = build_algorithm(config_of(settings), context)
    first, first_info = algorithm.apply(state, base, update)
    assert not torch.equal(first.model, plain_afterwards)
    algorithm.apply(first, base, replace(update, client_id=2, job=100))
    again, again_info = algorithm.apply(state, base, update)
    assert encoded(state) == before
    structure, arrays = encode(state)
    restored = decode(json.loads(json.dumps(structure)), arrays, STATE_TYPES, context.device)
    resumed, _ = build_algorithm(config_of(settings), context).apply(restored, base, update)
    assert encoded(first) == encoded(again) == encoded(resumed)
    assert first_info == again_info


def test_uniform_and_oracle_proportions_probe_nothing(small, drive, oracle_of) -> None:
    for state, info in drive(small(proportions="uniform"), arrivals=6):
        asked = info.server_version >= 2
        assert info.proportion_entropy == (pytest.approx(math.log(3)) if asked else None)
        assert info.proportion_correlation is None
        assert len(state.memory.proportions) == 0
    assert info.server_flops == 0 or info.server_version >= 2
    counts = oracle_of().class_histograms.double()
    for state, info in drive(small(proportions="oracle"), arrivals=6)[2:]:
        rows = [counts[t.client_id] / counts[t.client_id].sum() for t in state.memory.teachers]
        entropy = -sum(float((r * r.clamp(min=1e-300).log()).sum()) for r in rows) / len(rows)
        assert info.proportion_entropy == pytest.approx(entropy, abs=1e-5)
        assert info.proportion_correlation == pytest.approx(1.0)


def test_a_full_floor_is_uniform_but_still_probes(small, drive) -> None:
    state, info = drive(small(probe_floor=1.0), arrivals=3)[-1]
    assert info.proportion_entropy == pytest.approx(math.log(3))
    assert state.memory.proportions.clients.tolist() == [0, 1, 2]


def test_noise_and_real_images_replace_the_generators_and_nothing_else(
    small, drive, oracle_of, plain
) -> None:
    oracle = oracle_of()
    sizes = [info.pool_size for _, info in plain]
    for pool in ("noise", "real"):
        steps = drive(small(pool=pool), arrivals=ARRIVALS)
        assert [info.pool_size for _, info in steps] == sizes
        assert all(state.memory.generator is None and info.synthesis_loss is None for state, info in steps)
        held = steps[-1][0].memory.pool
        if pool == "real":
            known = {
                image.numpy().tobytes(): int(y)
                for image, y in zip(oracle.kd_inputs.float() / 255, oracle.kd_labels, strict=True)
            }
            assert all(
                known[i.numpy().tobytes()] == int(y) for i, y in zip(held.samples, held.labels, strict=True)
            )
        else:
            inputs = (held.samples - 0.4) / 0.3
            assert float(inputs.mean()) == pytest.approx(0, abs=0.1)
            assert float(inputs.std()) == pytest.approx(1, abs=0.1)
    first_of_plain = next(state.memory.pool for state, info in plain if info.pool_size)
    first_of_noise = next(
        state.memory.pool for state, info in drive(small(pool="noise"), arrivals=ARRIVALS) if info.pool_size
    )
    assert torch.equal(first_of_plain.labels, first_of_noise.labels), "labels come from one stream"


def test_random_teachers_know_nothing_of_the_clients(small, drive, plain, context_of) -> None:
    count = context_of().spec.parameter_count
    initial = context_of().initial_model[:count].sort().values
    steps = drive(small(teachers="random_weights"), arrivals=ARRIVALS)
    for (state, info), (other, _) in zip(steps, plain, strict=True):
        teachers = [teacher.model[:count] for teacher in state.memory.teachers]
        assert all(torch.equal(model.sort().values, initial) for model in teachers)
        assert len({model.numpy().tobytes() for model in teachers}) == len(teachers)
        if info.server_version <= 4:  # until distillation begins, both servers see the same clients
            known, expected = state.memory.proportions, other.memory.proportions
            assert torch.equal(known.clients, expected.clients)
            assert torch.equal(known.totals, expected.totals)


@pytest.mark.parametrize("family", [RunningQuantileBeta, VarianceDrivenBeta])
def test_adaptive_beta_is_remembered_alike_by_fedrevive_and_afl_dw(small, family, drive) -> None:
    beta = family(window=5)
    rule, observed, expected = beta_rule(beta, concurrency=4, updates_per_version=1), (), []
    revive = drive(small(beta=beta, distill_steps=0, freeze_versions=0), arrivals=14)
    weighted = drive(AflDwSettings(beta=beta, warmup_versions=4), arrivals=14)
    for (left, info), (right, other) in zip(revive, weighted, strict=True):
        value, observed = rule.evaluate(observed, info.staleness)
        expected.append(value if info.server_version > 4 else 0.0)
        assert info.beta == other.beta == expected[-1]
        assert left.memory.observed == right.memory == observed
        assert torch.equal(left.model, right.model)
    assert len(set(expected)) > 3


def test_diagnostics_measure_and_change_nothing(small, drive, plain) -> None:
    measured = drive(small(diagnostics=True), arrivals=ARRIVALS)
    for (state, info), (other, without) in zip(measured, plain, strict=True):
        assert torch.equal(state.model, other.model)
        if info.server_version < 2:  # nothing is asked of the teachers yet
            assert info == without
            continue
        assert -1 <= info.proportion_correlation <= 1
        assert 0 <= info.ensemble_accuracy <= 1
        kept = replace(info, proportion_correlation=None, ensemble_accuracy=None)
        assert kept == without
        assert 0 <= info.proportion_entropy <= math.log(3) + 1e-6
        assert (info.teacher_agreement is None) == (info.distill_loss is None)
    assert measured[-1][1].teacher_agreement is not None


def test_without_gates_the_first_stale_update_is_distilled(small, drive) -> None:
    steps = drive(small(**SWITCHES["no-gates"]), arrivals=ARRIVALS)
    assert all((info.distill_loss is not None) == (info.staleness > 0) for _, info in steps)
    assert all((info.synthesis_loss is not None) == (info.staleness > 0) for _, info in steps)


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
@pytest.mark.parametrize("augmentation", ["none", "crop_flip"])
def test_runs_with_every_norm_and_augmentation(small, drive, norm: str, augmentation: str) -> None:
    steps = drive(small(augmentation=augmentation), arrivals=14, norm=norm)
    assert any(info.distill_loss is not None for _, info in steps)
    assert all(bool(torch.isfinite(state.model).all()) for state, _ in steps)


def test_images_too_small_to_crop_are_refused(small, config_of, context_of) -> None:
    tiny = replace(context_of(), input_shape=(1, 4, 4))
    with pytest.raises(ValueError, match="crop_flip needs more than 4 pixels"):
        build_algorithm(config_of(small(augmentation="crop_flip")), tiny)

"""The gate: every kind of malformed upload is rejected with its reason, sound ones pass untouched."""

from dataclasses import replace

import numpy as np
import pytest

from fedrevive.core.gate import FIRST_NORMS, LARGEST, Gate, GateMemory
from fedrevive.settings.experiment import GateSettings
from fedrevive.settings.loading import load
from fedrevive.tasks import task_info
from fedrevive.tasks.models import build_model

CONFIG = load("digits", ["model.norm=batch", "model.width=4"])
MODEL = build_model(CONFIG.model, task_info(CONFIG.task), 0)
SPEC = MODEL.spec
BASE = MODEL.vector.numpy().copy()
VARIANCES = np.flatnonzero(
    np.concatenate(
        [np.zeros(SPEC.parameter_count)]
        + [np.full(int(np.prod(shape)), name.endswith("running_var")) for name, shape in SPEC.buffers]
    )
)
NORM_RULE = GateSettings(max_norm_factor=4.0)


def with_value(position, value):
    model = BASE.copy()
    model[position] = value
    return model


def moved(norm, buffers=0.0):
    """BASE with parameters and buffers moved by vectors of these lengths."""
    model = BASE.copy()
    model[0] += np.float32(norm)
    model[-1] += np.float32(buffers)
    return model


MALFORMED = {
    "nan": (with_value(3, np.nan), "1 of"),
    "nan in a buffer": (with_value(-1, np.nan), "1 of"),
    "inf": (with_value(3, np.inf), "1 of"),
    "minus inf": (with_value(3, -np.inf), "1 of"),
    "so large that float32 norms overflow": (with_value(3, 1e30), "1 of"),
    "negative variance": (with_value(VARIANCES[0], -1e-6), "variance"),
    "last variance negative": (with_value(VARIANCES[-1], -1e-6), "variance"),
    "too short": (BASE[:-1], "float32"),
    "too long": (np.append(BASE, np.float32(0)), "float32"),
    "empty": (BASE[:0], "float32"),
    "matrix": (BASE[None], "float32"),
    "double precision": (BASE.astype(np.float64), "float64"),
    "integers": (BASE.astype(np.int32), "int32"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_uploads_are_rejected(name):
    model, reason = MALFORMED[name]
    found, memory = Gate(GateSettings(), SPEC).judged(BASE, model, GateMemory(rejected=2))
    assert found is not None
    assert reason in found
    assert "\n" not in found
    assert memory == GateMemory(rejected=3)


@pytest.mark.parametrize(
    "model",
    [BASE, with_value(3, LARGEST), with_value(3, -LARGEST), with_value(VARIANCES[0], 0.0), moved(1e9)],
)
def test_sound_uploads_pass(model):
    assert Gate(GateSettings(), SPEC).judged(BASE, model, GateMemory()) == (None, GateMemory())


def test_means_and_parameters_may_be_negative():
    model = np.where(np.isin(np.arange(SPEC.size), VARIANCES), BASE, -1).astype(np.float32)
    assert Gate(GateSettings(), SPEC).judged(BASE, model, GateMemory())[0] is None


def test_an_open_gate_still_wants_a_model_of_the_right_kind():
    gate = Gate(GateSettings(finite=False), SPEC)
    assert gate.judged(BASE, MALFORMED["nan"][0], GateMemory())[0] is None
    assert gate.judged(BASE, MALFORMED["negative variance"][0], GateMemory())[0] is None
    assert gate.judged(BASE, MALFORMED["too short"][0], GateMemory())[0] is not None


def judge_all(gate, norms):
    memory, passed = GateMemory(), []
    for norm in norms:
        reason, memory = gate.judged(BASE, moved(norm), memory)
        passed.append(reason is None)
    return passed, memory


def test_the_norm_rule_against_the_slow_form():
    random = np.random.default_rng(5)
    norms = np.where(random.random(200) < 0.2, 1000.0, np.exp(random.standard_normal(200))).tolist()
    passed, memory = judge_all(Gate(GateSettings(max_norm_factor=4.0, norm_window=7), SPEC), norms)
    exact = [float(np.linalg.norm(moved(norm).astype(np.float64) - BASE)) for norm in norms]
    expected = [n >= FIRST_NORMS and exact[n] <= 4 * np.median(exact[max(0, n - 7) : n]) for n in range(200)]
    assert passed == expected
    assert 0 < sum(expected) < 195
    assert memory == GateMemory(tuple(exact[-7:]), (0.0,) * 7, 200 - sum(expected))


def test_an_explosion_in_the_first_uploads_does_not_pass():
    passed, _ = judge_all(Gate(GateSettings(max_norm_factor=4.0), SPEC), [1e3, 1, 1e3, 1, 1, 1, 1e3, 1])
    assert passed == [False] * FIRST_NORMS + [True, False, True]


def test_norms_that_have_grown_for_good_pass_again():
    passed, _ = judge_all(Gate(GateSettings(max_norm_factor=2.0), SPEC), [1.0] * 30 + [9.0] * 30)
    assert not passed[30]
    assert all(passed[45:])


def test_malformed_uploads_teach_the_norm_rule_nothing():
    gate = Gate(GateSettings(max_norm_factor=4.0), SPEC)
    _, memory = judge_all(gate, [1.0] * 6)
    _, after = gate.judged(BASE, MALFORMED["nan"][0], memory)
    assert after.norms == memory.norms


def test_buffers_have_a_norm_rule_of_their_own():
    gate = Gate(NORM_RULE, SPEC)
    memory = GateMemory()
    for _ in range(6):
        _, memory = gate.judged(BASE, moved(1.0, buffers=100.0), memory)
    assert memory.buffer_norms == pytest.approx((100.0,) * 6)
    assert (
        gate.judged(BASE, moved(1.0, buffers=399.0), memory)[0] is None
    )  # not held against the parameters' median
    reason, after = gate.judged(BASE, moved(1.0, buffers=1e14), memory)
    assert reason is not None
    assert reason.startswith("norm of the buffers 1e+14 > 4 x 100, the median")
    assert (len(after.norms), after.buffer_norms[-1]) == (7, pytest.approx(1e14))
    assert gate.judged(BASE, moved(5.0, buffers=100.0), memory)[0].startswith("norm 5 > 4 x 1,")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [3, -1])
def test_the_norm_rule_alone_rejects_what_is_not_finite_and_forgets_it(value, position):
    gate = Gate(GateSettings(finite=False, max_norm_factor=4.0), SPEC)
    reason, early = gate.judged(BASE, with_value(position, value), GateMemory())
    assert reason is not None
    assert early == GateMemory(rejected=1)
    _, memory = judge_all(gate, [1.0] * 6)
    reason, after = gate.judged(BASE, with_value(position, value), memory)
    assert reason is not None
    assert "\n" not in reason
    assert after == replace(memory, rejected=memory.rejected + 1)

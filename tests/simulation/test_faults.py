"""Simulated faults on the timeline: drawn from streams of their own, given up in time, each upload taken once."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrevive.core.faults import LOST, Fault, corrupted
from fedrevive.core.model_state import ModelSpec
from fedrevive.settings.errors import ExitCode, UserError
from fedrevive.settings.faults import FaultSettings
from fedrevive.settings.loading import load
from fedrevive.simulation.delays import NANOSECONDS, sample_durations
from fedrevive.simulation.faults import ORDER, described, faulty_clients, sampled_faults
from fedrevive.simulation.planning import schedule
from fedrevive.simulation.timeline import Arrival, Incident, Timeline

ALL = {
    "timeout": 0.5,
    **{fault.kind: {"jobs": 0.06, "clients": 0.05} for fault in ORDER},
}
CHARGED = ["algorithm.warmup_versions=4", "server.charge_time.flops_per_unit=2e9"]
SMALL = ["task.clients=40", "server.concurrency=8", "stop.arrivals=60"]


def config(*overrides):
    return load("digits", [*SMALL, "algorithm.name=fedbuff", *overrides])


def typed(faults):
    return [f"faults.timeout={faults['timeout']}"] + [
        f"faults.{name}.{field}={value}"
        for name, rate in faults.items()
        if name != "timeout"
        for field, value in rate.items()
    ]


def test_rates_and_clients():
    rates = FaultSettings.model_validate(ALL)
    found = sampled_faults(rates, 3, 200, range(400))
    always = [faulty_clients(0.05, 3, 200, fault) for fault in ORDER]
    assert [who.sum() for who in always] == [10] * len(ORDER)
    assert len({who.tobytes() for who in always}) == len(ORDER), "each kind has its own clients"
    free, others = 1.0, ~np.any(always, axis=0)
    for fault, who in zip(ORDER, always, strict=True):
        assert (found[:, who] <= fault).all(), "a client that always fails meets no later kind"
        assert (found[:, who] != Fault.NONE).all()
        share = (found[:, others] == fault).mean()
        assert share == pytest.approx(0.06 * free, rel=0.1)
        free *= 0.94


def test_one_kind_leaves_the_others_where_they_are():
    both = FaultSettings.model_validate({"nan": {"jobs": 0.3}, "label_flip": {"jobs": 0.3, "clients": 0.1}})
    alone = FaultSettings.model_validate({"label_flip": {"jobs": 0.3, "clients": 0.1}})
    a, b = (sampled_faults(rates, 0, 50, range(100)) for rates in (both, alone))
    kept = a != Fault.NAN
    assert (a[kept] == b[kept]).all()
    assert (a[~kept] == Fault.NAN).all()
    more = FaultSettings.model_validate({"label_flip": {"jobs": 0.5, "clients": 0.3}})
    assert ((sampled_faults(more, 0, 50, range(100)) == Fault.LABEL_FLIP) >= (b == Fault.LABEL_FLIP)).all()


def test_a_share_above_zero_is_at_least_one_client():
    assert faulty_clients(0.001, 0, 20, Fault.NAN).sum() == 1
    assert faulty_clients(0.0, 0, 20, Fault.NAN).sum() == 0
    assert faulty_clients(1.0, 0, 20, Fault.NAN).all()


def test_wrong_values_do_not_move_the_timeline():
    clean, faulty = (
        Timeline(config(*overrides), "continuous")
        for overrides in (
            [],
            ["faults.nan.jobs=0.3", "faults.explosion.clients=0.2", "faults.duplicate.jobs=0.2"],
        )
    )
    seen = Counter()
    for _ in range(300):
        step = faulty.advance()
        while isinstance(step, Incident):
            seen["second"] += 1
            step = faulty.advance()
        expected = clean.advance()
        assert step.task._replace(fault=Fault.NONE) == expected.task
        seen[step.task.fault] += 1
    assert min(seen[key] for key in ("second", Fault.NAN, Fault.EXPLOSION)) > 20


@settings(max_examples=40, deadline=None)
@given(
    concurrency=st.integers(1, 8),
    spare=st.integers(0, 6),
    seed=st.integers(0, 2**32),
    dispatch=st.sampled_from(["continuous", "cohort"]),
    timeout=st.sampled_from([0.05, 0.15, 0.5]),
    charge=st.booleans(),
)
def test_invariants(concurrency, spare, seed, dispatch, timeout, charge):
    """Every job ends once, as an upload or given up; the clock never goes back; only idle clients are drawn."""
    clients = concurrency + spare
    experiment = load(
        "digits",
        [
            *SMALL, *typed({**ALL, "timeout": timeout}), f"seed={seed}", f"task.clients={clients}",
            f"server.concurrency={concurrency}",
            *([*CHARGED, f"algorithm.teacher_capacity={min(4, clients)}"] if charge else ["algorithm.name=fedbuff"]),
        ],
    )  # fmt: skip
    timeline, twin = Timeline(experiment, dispatch), Timeline(experiment, dispatch)
    trained = sample_durations(experiment.delays, seed, clients, range(80)).trained
    limit = round(timeout * NANOSECONDS)
    busy_until, open_jobs, clock = [0] * clients, {}, 0
    second_copies, uploads = {}, []

    def check(tasks):
        for task in tasks:
            assert busy_until[task.client_id] <= task.dispatched_at == clock
            assert task.base_arrivals == timeline.arrivals
            training = (
                limit if task.fault is Fault.DROPOUT else min(limit, int(trained[task.nth, task.client_id]))
            )
            busy_until[task.client_id] = clock + training
            open_jobs[task.job] = task

    check(timeline.in_flight)
    for _ in range(60):
        due, step = timeline.next_event_at(), timeline.advance()
        assert step == twin.advance()
        assert due == timeline.now >= clock
        clock = due
        if isinstance(step, Arrival):
            assert open_jobs.pop(step.task.job) == step.task
            assert step.task.fault not in LOST
            uploads.append(step.task)
            assert step.sequence == len(uploads) - 1
            assert step.task.arrives_at <= min(clock, step.task.dispatched_at + limit)
            assert charge or step.task.arrives_at == clock
        elif step.task.fault in LOST:
            assert open_jobs.pop(step.task.job) == step.task
            assert clock == step.task.arrives_at == step.task.dispatched_at + limit
        else:
            assert step.task.fault is Fault.DUPLICATE
            assert step.dispatched == ()
            assert step.task.job not in second_copies
            second_copies[step.task.job] = clock
            assert clock == 2 * step.task.arrives_at - step.task.dispatched_at
        check(step.dispatched)
        assert open_jobs == {task.job: task for task in timeline.in_flight}
        if dispatch == "continuous":
            assert len(open_jobs) == concurrency
    assert [task.arrives_at for task in uploads] == sorted(task.arrives_at for task in uploads)


def test_whoever_is_late_is_given_up():
    experiment = config("faults.timeout=0.12")
    assert schedule(experiment).faults.keys() == {"late"}
    timeline = Timeline(experiment, "continuous")
    for _ in range(200):
        step = timeline.advance()
        assert (step.task.fault is Fault.LATE) == isinstance(step, Incident)


def test_a_long_timeout_changes_nothing():
    plain, limited = (Timeline(config(*more), "continuous") for more in ([], ["faults.timeout=1000.0"]))
    assert [plain.advance() for _ in range(200)] == [limited.advance() for _ in range(200)]


def test_nobody_can_finish():
    experiment = config("faults.dropout.jobs=1.0", "faults.timeout=0.1")
    with pytest.raises(UserError, match="nobody can finish") as raised:
        schedule(experiment)
    assert raised.value.exit_code == ExitCode.POLICY
    short = config(
        "faults.dropout.jobs=1.0", "faults.timeout=0.1", "stop.arrivals=null", "stop.virtual_time=5.0"
    )
    planned = schedule(short)
    assert len(planned.client) == 0
    assert planned.faults["dropout"] == 8 * 50


def test_lost_jobs_need_a_timeout():
    for name in ("dropout", "crash"):
        with pytest.raises(UserError, match=rf"^faults: {name} needs faults.timeout"):
            config(f"faults.{name}.jobs=0.1")


def test_scaled_deltas():
    buffers = (("running_mean", (1,)), ("running_var", (2,)))
    spec = ModelSpec((("weight", (3,)),), buffers, parameter_count=3, buffer_count=3, buffer_rule="average")
    base = np.array([1, 2, 3, 9, 1, 1], np.float32)
    model = np.array([2, 0, 3, 7, 0.5, 2], np.float32)
    assert corrupted(model, base, spec, -2.0).tolist() == [-1, 6, 3, 7, 0.5, 2]
    assert np.isnan(corrupted(model, base, spec, float("nan"))).tolist() == [True] * 3 + [False] * 3
    assert corrupted(model, base, spec, 10.0).tolist() == [11, -18, 3, -11, 0, 11]
    assert model.tolist() == [2, 0, 3, 7, 0.5, 2]
    assert corrupted(model, base, spec, 1e30).dtype == np.float32


@pytest.mark.parametrize("fault", [*ORDER, Fault.LATE])
def test_every_fault_is_described_in_one_line(fault):
    text = described(fault, FaultSettings.model_validate(ALL))
    assert text
    assert "\n" not in text

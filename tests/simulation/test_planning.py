import numpy as np
import pytest

from fedrevive.algorithms import dispatch_of
from fedrevive.assemble import client_trainer, server
from fedrevive.core.beta_rule import configured_beta_rule
from fedrevive.settings.errors import UserError
from fedrevive.settings.loading import load
from fedrevive.simulation import planning
from fedrevive.simulation.executor import InlineExecutor
from fedrevive.simulation.loop import simulate
from fedrevive.simulation.planning import Schedule, parallelism, planned_beta, schedule, server_flops
from fedrevive.simulation.records import ArrivalRecord
from fedrevive.simulation.server_work import forward_work
from fedrevive.tasks import load_task

EARLY = ["algorithm.warmup_versions=8"]


def made_by_hand():
    """Two slots: jobs 0, 1 start at once, job 2 after the first arrival, job 3 after the third."""
    columns = ([0, 1, 2, 3], [0, 0, 1, 3], [10, 20, 30, 40])
    return Schedule(*(np.array(column) for column in columns), version=np.arange(5))


def test_staleness_by_hand():
    assert made_by_hand().staleness.tolist() == [0, 1, 1, 0]


def test_longest_chain_by_hand():
    # Client work 5 each, server free: jobs 0 -> 2 -> 3 are a chain of 15, all work is 20.
    assert parallelism(made_by_hand(), 5.0, np.zeros(4)).clients == pytest.approx(20 / 15)
    # Server step 2: 0 at 5 -> 7, 1 at 7 -> 9, 2 ready at 12 -> 14, 3 ready at 19 -> 21.
    bound = parallelism(made_by_hand(), 5.0, np.full(4, 2.0))
    assert bound.critical_path_flops == pytest.approx(21)
    assert bound.with_server == pytest.approx(28 / 21)


def test_sequential_run_has_no_parallelism():
    planned = schedule(load("digits", ["server.concurrency=1", "stop.arrivals=30"]))
    assert parallelism(planned, 1.0, np.zeros(30)).clients == pytest.approx(1.0)


def ran(overrides):
    """The records of a run, and its configuration."""
    config = load("digits", overrides)
    data = load_task(config.task, config.seed)
    executor = InlineExecutor(server(config, data), client_trainer(config, data))
    return list(
        simulate(config, dispatch_of(config.algorithm), executor, snapshot_due=lambda _: False)
    ), config


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["server.updates_per_version=3"],
        ["algorithm.generate_every_versions=1"],
        ["algorithm.name=dd_fedrevive"],
        [
            "algorithm.name=dd_fedrevive",
            "algorithm.beta.family=one_minus_cosine",
            "server.updates_per_version=2",
        ],
        ["server.charge_time.flops_per_unit=1e10"],
        ["seed=5"],
        ["algorithm.proportions=uniform", "algorithm.weights.adversarial=0"],
        ["algorithm.proportions=oracle", "algorithm.pool=real", "algorithm.diagnostics=true"],
        ["algorithm.pool=noise", "algorithm.teachers=random_weights", "algorithm.class_weights=false"],
        ["algorithm.distill_from=stepped"],
        ["algorithm.distill_from=stepped", "server.updates_per_version=3"],
        ["algorithm.freeze_versions=0", "algorithm.warmup_versions=0"],
        ["algorithm.distill_steps=0"],
        ["algorithm.remember_answers=true", "algorithm.pool_capacity=100", "algorithm.teacher_capacity=3"],
        ["algorithm.reviver.kind=teacher_mean"],
        ["algorithm.reviver.kind=server_ema"],
        ["algorithm.beta.family=stepwise"],
        ["algorithm.beta.family=running_quantile", "algorithm.beta.window=9"],
        ["algorithm.name=afl_dw", "algorithm.beta.family=variance_driven"],
    ],
)
def test_planned_server_work_is_what_a_run_reports(overrides):
    small = ["task.clients=20", "server.concurrency=6", "client.local_steps=1", "stop.arrivals=40"]
    records, config = ran([*small, *EARLY, *overrides])
    reported = [record.applied.info.server_flops for record in records if isinstance(record, ArrivalRecord)]
    forward, shape = forward_work(config)
    assert server_flops(config, schedule(config), forward, shape).tolist() == reported


LOST_UPLOADS = ["task.clients=24", "client.local_steps=1", "stop.arrivals=30", "faults.timeout=3"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["algorithm.name=fedavg", "server.concurrency=6", "faults.dropout.jobs=0.3"],
        ["algorithm.name=fedavg", "server.concurrency=2", "faults.dropout.jobs=0.8"],
        ["algorithm.name=fedavg", "server.concurrency=5", "stop.arrivals=null", "stop.virtual_time=20.0"],
        ["algorithm.name=fedbuff", "server.concurrency=6", "server.updates_per_version=4", "faults.dropout.jobs=0.3"],
    ],
)  # fmt: skip
def test_planned_versions_are_those_of_a_run(overrides):
    records, config = ran([*LOST_UPLOADS, *overrides])
    found = [record.applied.info for record in records if isinstance(record, ArrivalRecord)]
    planned = schedule(config)
    assert planned.staleness.tolist() == [info.staleness for info in found]
    assert planned.version[:-1].tolist() == [info.server_version for info in found]
    assert planned.version[-1] == records[-1].version > 2


def test_planned_beta_is_what_a_run_would_evaluate():
    config = load("digits", ["stop.arrivals=300", "algorithm.beta.family=running_quantile"])
    planned = schedule(config)
    values, at_the_end = planned_beta(config, planned)
    rule, observed = configured_beta_rule(config), ()
    for sequence, staleness in enumerate(planned.staleness.tolist()):
        expected, observed = rule.evaluate(observed, staleness)
        assert values[sequence] == (expected if sequence > config.server.concurrency else 0)
    assert at_the_end(12) == rule.schedule(observed)(12)
    assert 0.3 < values[100:].mean() < 0.7, "half of the updates lie beyond the median"


def test_planned_beta_of_a_fixed_family_depends_on_staleness_alone():
    config = load("digits", ["stop.arrivals=100", "algorithm.warmup_versions=40"])
    planned = schedule(config)
    values, curve = planned_beta(config, planned)
    assert values[41:].tolist() == [curve(tau) for tau in planned.staleness[41:].tolist()]
    assert not values[:41].any()
    assert planned_beta(load("digits", ["algorithm.name=fedbuff"]), planned) is None


@pytest.mark.parametrize("stop", ["stop.arrivals=1000000000", "stop.virtual_time=1000"])
def test_a_plan_without_end_is_refused(stop, monkeypatch):
    monkeypatch.setattr(planning, "MOST_ARRIVALS", 50)
    name, value = stop.split("=")
    config = load("digits", ["stop.arrivals=null", "stop.virtual_time=null", stop])
    with pytest.raises(
        UserError, match=f"{name}: {value}.* is more than a plan plays, 50 arrivals"
    ) as caught:
        schedule(config)
    assert caught.value.exit_code == 2

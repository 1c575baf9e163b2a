import numpy as np
import pytest

from fedrevive.core.beta_rule import configured_beta_rule
from fedrevive.settings.loading import load
from fedrevive.simulation.planning import Schedule, parallelism, planned_beta, schedule, server_flops

EARLY = ["algorithm.warmup_versions=8"]


def made_by_hand():
    """Two slots: jobs 0, 1 start at once, job 2 after the first arrival, job 3 after the third."""
    columns = ([0, 1, 2, 3], [0, 0, 1, 3], [10, 20, 30, 40])
    return Schedule(*(np.array(column) for column in columns), updates_per_version=1)


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
        ["algorithm.reviver.kind=teacher_mean"],
        ["algorithm.reviver.kind=server_ema"],
        ["algorithm.beta.family=stepwise"],
        ["algorithm.beta.family=running_quantile", "algorithm.beta.window=9"],
        ["algorithm.name=afl_dw", "algorithm.beta.family=variance_driven"],
    ],
)
def test_planned_server_work_is_what_a_run_reports(overrides):
    from fedrevive.algorithms import dispatch_of
    from fedrevive.assemble import client_trainer, server
    from fedrevive.simulation.executor import InlineExecutor
    from fedrevive.simulation.loop import simulate
    from fedrevive.simulation.records import ArrivalRecord
    from fedrevive.simulation.server_work import forward_work
    from fedrevive.tasks import load_task

    small = ["task.clients=20", "server.concurrency=6", "client.local_steps=1", "stop.arrivals=40"]
    config = load("digits", [*small, *EARLY, *overrides])
    data = load_task(config.task, config.seed)
    executor = InlineExecutor(server(config, data), client_trainer(config, data))
    records = simulate(config, dispatch_of(config.algorithm), executor, snapshot_due=lambda _: False)
    ran = [record.applied.info.server_flops for record in records if isinstance(record, ArrivalRecord)]
    forward, shape = forward_work(config)
    assert server_flops(config, schedule(config), forward, shape).tolist() == ran


def test_planned_beta_is_what_a_run_would_evaluate():
    config = load("digits", ["stop.arrivals=300", "algorithm.beta.family=running_quantile"])
    planned = schedule(config)
    values, at_the_end = planned_beta(config, planned)
    rule, observed = configured_beta_rule(config), ()
    for value, staleness in zip(values, planned.staleness.tolist(), strict=True):
        expected, observed = rule.evaluate(observed, staleness)
        assert value == expected
    assert at_the_end(12) == rule.schedule(observed)(12)
    assert 0.3 < values[100:].mean() < 0.7, "half of the updates lie beyond the median"


def test_planned_beta_of_a_fixed_family_depends_on_staleness_alone():
    config = load("digits", ["stop.arrivals=100"])
    planned = schedule(config)
    values, curve = planned_beta(config, planned)
    assert values.tolist() == [curve(tau) for tau in planned.staleness.tolist()]
    assert planned_beta(load("digits", ["algorithm.name=fedbuff"]), planned) is None

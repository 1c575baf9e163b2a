"""Every algorithm gives the same bits inline, on 1 and on 2 workers, and after a resume."""

from collections import Counter
from itertools import pairwise

import pytest
import torch
from contract_runs import VARIANTS, experiment, hashes, inline_executor, on_ray

from fedrevive.algorithms import STATE_TYPES, dispatch_of
from fedrevive.core.state_tree import decode
from fedrevive.results.reading import read_table
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import ExitCode, UserError
from fedrevive.settings.fedrevive import FedReviveSettings
from fedrevive.settings.sections import section_field
from fedrevive.simulation.loop import simulate
from fedrevive.simulation.planning import schedule
from fedrevive.simulation.records import ArrivalRecord, EvaluationRecord, FinalRecord, SnapshotRecord


def test_the_variants_cover_every_algorithm_and_every_beta():
    algorithms = [experiment(variant).algorithm for variant in VARIANTS]
    betas = {algorithm.beta.family for algorithm in algorithms if hasattr(algorithm, "beta")}
    assert {algorithm.name for algorithm in algorithms} == set(
        section_field(ExperimentConfig, "algorithm").kinds
    )
    assert betas == set(section_field(FedReviveSettings, "beta").kinds)


@pytest.mark.ray
@pytest.mark.parametrize("variant", VARIANTS)
def test_same_bits_on_every_executor(variant, cluster, tmp_path):
    config = experiment(variant)
    expected = hashes(config, inline_executor(config), tmp_path / "inline")
    for workers, lane in cluster.items():
        assert hashes(config, on_ray(lane, config), tmp_path / f"ray{workers}") == expected


@pytest.mark.parametrize("variant", VARIANTS)
def test_resume_inline_equals_the_uninterrupted_run(variant, tmp_path):
    config = experiment(variant)
    expected = hashes(config, inline_executor(config), tmp_path / "whole")
    arrivals = iter(range(10_000))
    for stop_at in (5, 12, 1, 9):
        pieces = hashes(
            config,
            inline_executor(config),
            tmp_path / "pieces",
            interrupted=lambda n=stop_at: next(arrivals) % 20 >= n,
        )
        if pieces is not None:
            break
    pieces = pieces or hashes(config, inline_executor(config), tmp_path / "pieces")
    assert pieces == expected


@pytest.mark.ray
@pytest.mark.parametrize("variant", ["fedrevive", "fedavg", "fedbuff", "faults-fedavg"])
def test_resume_changes_executors(variant, cluster, tmp_path):
    config = experiment(variant)
    expected = hashes(config, inline_executor(config), tmp_path / "whole")
    seen = []
    stop_soon = lambda: seen.append(1) or len(seen) % 25 > 13  # noqa: E731
    hashes(config, on_ray(cluster[2], config), tmp_path / "pieces", interrupted=stop_soon)
    seen.clear()
    hashes(config, inline_executor(config), tmp_path / "pieces", interrupted=stop_soon)
    assert hashes(config, on_ray(cluster[1], config), tmp_path / "pieces") == expected


@pytest.mark.ray
def test_a_diverged_run_stops_by_policy_on_ray_too(cluster, tmp_path):
    config = experiment("fedbuff", "faults.nan.jobs=0.2", "server.gate.finite=false")
    with pytest.raises(UserError, match="diverged") as raised:
        hashes(config, on_ray(cluster[2], config), tmp_path / "run")
    assert raised.value.exit_code == ExitCode.POLICY


@pytest.mark.ray
@pytest.mark.parametrize(
    ("algorithm", "seed"),
    [("fedasync-constant", 2), ("fedasync-constant", 3), ("fedavg", 2), ("fedavg", 3)],
)
def test_a_diverged_run_has_the_same_records_before_its_end(algorithm, seed, cluster):
    """Server steps share a call, and every model is to be evaluated: those before the error have to be there."""
    faults = ["faults.nan.jobs=0.01", "faults.timeout=1.5", "server.gate.finite=false"]
    often = ["evaluation.every_arrivals=1", "stop.arrivals=300", "client.local_steps=1", f"seed={seed}"]
    config = experiment(algorithm, *faults, *often)

    def told(executor):
        records, known = (
            simulate(config, dispatch_of(config.algorithm), executor, snapshot_due=lambda _: False),
            [],
        )
        with pytest.raises(UserError, match="diverged") as raised:
            known.extend(strict(record) for record in records)
        assert raised.value.exit_code == ExitCode.POLICY
        return known

    def strict(record):
        if isinstance(record, EvaluationRecord):
            return record.arrivals, record.version, record.evaluation.validation_loss
        return type(record), record.sequence, record.task

    inline = told(inline_executor(config))
    assert len(inline) > 15
    assert told(on_ray(cluster[2], config)) == inline


def test_adapted_local_steps_are_those_of_the_base_model():
    """AsyncFedED decides a job's steps at its dispatch: later uploads of the client do not change it."""
    config = experiment("asyncfeded-adaptive")
    records = list(simulate(config, "continuous", inline_executor(config), snapshot_due=lambda _: True))
    steps = {0: {}}
    for record in records:
        if isinstance(record, SnapshotRecord):
            memory = decode(
                record.server.structure, record.server.arrays, STATE_TYPES, torch.device("cpu")
            ).memory
            steps[record.arrivals] = memory.local_steps
    jobs = [record for record in records if isinstance(record, ArrivalRecord)]
    expected = [steps[r.task.base_arrivals].get(r.task.client_id, 3) for r in jobs]
    assert [r.applied.samples / config.client.batch_size for r in jobs] == expected
    assert len(set(expected)) > 2


def test_snapshots_are_consistent_cuts():
    config = experiment("fedrevive")
    dispatch = dispatch_of(config.algorithm)
    whole = list(simulate(config, dispatch, inline_executor(config), snapshot_due=lambda n: n % 10 == 0))
    final = whole[-1]
    assert isinstance(final, FinalRecord)
    for snapshot in [record for record in whole if isinstance(record, SnapshotRecord)]:
        rest = list(
            simulate(
                config, dispatch, inline_executor(config), snapshot_due=lambda _: False, resume_from=snapshot
            )
        )
        assert (rest[-1].model == final.model).all()
        ran = [record.sequence for record in rest if isinstance(record, ArrivalRecord)]
        assert ran == list(range(snapshot.arrivals, 50))


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant.startswith("faults")])
def test_faults_and_rejections_are_events(variant, tmp_path):
    """Every upload is an arrival or a rejection, never both; the events tell what `plan` foresees."""
    config = experiment(variant)
    hashes(config, inline_executor(config), tmp_path / "run")
    arrivals, events = (read_table(tmp_path / "run", table).to_pylist() for table in ("arrivals", "events"))
    rejected = {event["job"] for event in events if event["kind"] == "rejected"}
    assert len(arrivals) + len(rejected) == 50
    assert not rejected & {arrival["job"] for arrival in arrivals}
    assert [row["sequence"] for row in arrivals] == list(range(len(arrivals)))
    assert [row["sequence"] for row in events] == list(range(len(events)))
    assert [row["virtual_time"] for row in events] == sorted(row["virtual_time"] for row in events)
    simulated = Counter(
        event["kind"] for event in events if event["kind"] not in ("rejected", "distillation")
    )
    assert simulated == schedule(config).faults
    assert {"nan", "explosion", "dropout", "crash", "duplicate"} <= simulated.keys()
    wrong = {event["job"] for event in events if event["kind"] in ("nan", "explosion")}
    assert wrong <= rejected
    evaluated = read_table(tmp_path / "run", "evaluations").to_pylist()
    assert evaluated[-1]["arrivals"] == 50
    if config.algorithm.name == "fedavg":  # synchronous, whoever is missing
        assert {row["staleness"] for row in arrivals} == {0}
        # One version per cohort of which anything was accepted; the last one may be incomplete.
        versions = [row["version"] for row in evaluated]
        assert {later - earlier for earlier, later in pairwise(versions)} <= {0, 1}
        assert len({row["base_version"] for row in arrivals}) - versions[-1] in (0, 1)

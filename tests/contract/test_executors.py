"""Every algorithm gives the same bits inline, on 1 and on 2 workers, after a dead worker and after a resume."""

import os
import signal
from collections.abc import Iterator

import pytest
import ray
import torch

from fedrevive.algorithms import STATE_TYPES, dispatch_of
from fedrevive.assemble import client_trainer, server
from fedrevive.core.process import configure_process
from fedrevive.core.state_tree import decode
from fedrevive.experiment import run_experiment
from fedrevive.results.store import RunStore
from fedrevive.runtime.ray_executor import RayExecutor
from fedrevive.runtime.session import Lane, open_lane, ray_session
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.fedrevive import FedReviveSettings
from fedrevive.settings.loading import load
from fedrevive.settings.sections import section_field
from fedrevive.simulation.executor import InlineExecutor
from fedrevive.simulation.loop import simulate
from fedrevive.simulation.records import ArrivalRecord, FinalRecord, SnapshotRecord
from fedrevive.tasks import load_task

TINY = ["task.clients=24", "task.samples_per_client=20", "server.concurrency=6", "client.local_steps=3",
        "client.batch_size=8", "stop.arrivals=50", "evaluation.every_arrivals=7"]  # fmt: skip
REVIVE = ["algorithm.name=fedrevive", "algorithm.warmup_versions=8", "algorithm.generate_every_versions=4"]
ADAPTIVE = ["algorithm.name=asyncfeded", "algorithm.target_distance=2.0", "algorithm.local_steps_range=3"]
SLOW_SERVER = ["server.charge_time.flops_per_unit=5e9"]
VARIANTS = {
    "fedavg": ["algorithm.name=fedavg"],
    "fedasync-constant": ["algorithm.name=fedasync", "algorithm.staleness_weight.family=constant"],
    "fedasync-polynomial": ["algorithm.name=fedasync", "algorithm.proximal=0.01"],
    "fedasync-hinge": ["algorithm.name=fedasync", "algorithm.staleness_weight.family=hinge"],
    "fedbuff": ["algorithm.name=fedbuff", "server.updates_per_version=4"],
    "fedbuff-weighted": ["algorithm.name=fedbuff", "algorithm.staleness_weight.family=polynomial"],
    "afl_dw": ["algorithm.name=afl_dw", "algorithm.warmup_versions=3"],
    "fedrevive": REVIVE,
    "fedrevive-b2": [*REVIVE, "server.updates_per_version=2", "algorithm.beta.family=polynomial"],
    "fedrevive-batch-norm": [*REVIVE, "model.norm=batch"],
    "fedrevive-group-norm": [*REVIVE, "model.norm=group"],
    "fedrevive-oracles": [
        *REVIVE,
        "algorithm.proportions=oracle",
        "algorithm.pool=real",
        "algorithm.diagnostics=true",
        "algorithm.beta.family=linear",
    ],
    "fedrevive-noise": [
        *REVIVE,
        "algorithm.pool=noise",
        "algorithm.teachers=random_weights",
        "algorithm.class_weights=false",
        "algorithm.labels=uniform",
        "algorithm.beta.family=exponential",
    ],
    "fedrevive-convex": [
        *REVIVE,
        "algorithm.reptile.kind=convex",
        "algorithm.probe_floor=0.05",
        "algorithm.augmentation=crop_flip",
        "algorithm.beta.family=running_quantile",
    ],
    "fedrevive-stepped": [
        *REVIVE,
        "algorithm.distill_from=stepped",
        "algorithm.distill_optimizer=sgd",
        "server.updates_per_version=2",
    ],
    "fedrevive-teacher-mean": [
        *REVIVE,
        "algorithm.reviver.kind=teacher_mean",
        "algorithm.beta.family=sigmoid",
    ],
    "fedrevive-server-ema": [
        *REVIVE,
        "algorithm.reviver.kind=server_ema",
        "model.norm=batch",
        "algorithm.beta.family=stepwise",
    ],
    "afl_dw-adaptive": ["algorithm.name=afl_dw", "algorithm.beta.family=variance_driven"],
    "ca2fl": ["algorithm.name=ca2fl", "server.updates_per_version=3"],
    "fadas": ["algorithm.name=fadas", "server.updates_per_version=2", "server.lr=0.01"],
    "fadas-paper": ["algorithm.name=fadas", "algorithm.delay_adaptation=capped", "model.norm=batch"],
    "asyncfeded": ["algorithm.name=asyncfeded"],
    "asyncfeded-adaptive": [*ADAPTIVE, "algorithm.local_steps_gain=1.0"],
    "fedfa": ["algorithm.name=fedfa", "server.lr=1", "algorithm.window=5"],
    "port": ["algorithm.name=port", "server.updates_per_version=3"],
    "dd_fedrevive": [
        "algorithm.name=dd_fedrevive",
        "algorithm.warmup_versions=8",
        "algorithm.teacher_capacity=3",
    ],
    "charged": [*REVIVE, *SLOW_SERVER],
    "charged-virtual-time": [*REVIVE, *SLOW_SERVER, "stop.arrivals=null", "stop.virtual_time=1.2"],
    "virtual-time": [*REVIVE, "stop.arrivals=null", "stop.virtual_time=0.9"],
    "target": ["algorithm.name=fedbuff", "stop.target_accuracy=0.12", "stop.arrivals=200"],
}


def experiment(variant, *more):
    return load("digits", [*TINY, *VARIANTS[variant], *more])


def test_the_variants_cover_every_algorithm_and_every_beta():
    algorithms = [experiment(variant).algorithm for variant in VARIANTS]
    betas = {algorithm.beta.family for algorithm in algorithms if hasattr(algorithm, "beta")}
    assert {algorithm.name for algorithm in algorithms} == set(
        section_field(ExperimentConfig, "algorithm").kinds
    )
    assert betas == set(section_field(FedReviveSettings, "beta").kinds)


def inline_executor(config):
    configure_process()
    data = load_task(config.task, config.seed)
    return InlineExecutor(server(config, data), client_trainer(config, data))


def hashes(config, executor, folder, interrupted=lambda: False):
    """Run into a folder (or go on there) and return its hashes, None when interrupted."""
    manifest = {"run_id": "test", "config": config.model_dump(mode="json")}
    with RunStore.open(folder, manifest=manifest) as store:
        for _ in run_experiment(config, store, executor, interrupted=interrupted):
            pass
        return store.manifest["hashes"] if store.finished else None


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[int, Lane]]:
    with ray_session(cpus=4, gpus=0, object_store_bytes=0):
        lanes = {workers: open_lane(workers, gpu=0) for workers in (1, 2)}
        yield lanes


def on_ray(lane, config):
    return RayExecutor(lane, config, ray.put(load_task(config.task, config.seed)))


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
@pytest.mark.parametrize("variant", ["fedrevive", "fedavg", "fedbuff"])
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
def test_killed_workers_change_nothing(cluster, tmp_path):
    config = experiment("fedrevive", "client.local_steps=20")
    expected = hashes(config, inline_executor(config), tmp_path / "whole")
    lane = cluster[2]
    executor = on_ray(lane, config)
    manifest = {"run_id": "test", "config": config.model_dump(mode="json")}
    with RunStore.open(tmp_path / "killed", manifest=manifest) as store:
        for record in run_experiment(config, store, executor):
            if isinstance(record, ArrivalRecord) and record.sequence in (3, 4, 20):
                pid = ray.get(lane.clients[record.sequence % 2].setup.remote(config, executor._data))
                os.kill(pid, signal.SIGKILL)
        assert store.manifest["hashes"] == expected


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


@pytest.mark.ray
def test_workers_that_died_between_experiments_are_replaced(cluster, tmp_path):
    config = experiment("fedbuff")
    lane = cluster[2]
    first = on_ray(lane, config)
    for client in list(lane.clients):
        os.kill(ray.get(client.setup.remote(config, first._data)), signal.SIGKILL)
    expected = hashes(config, inline_executor(config), tmp_path / "inline")
    assert hashes(config, on_ray(lane, config), tmp_path / "ray") == expected


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

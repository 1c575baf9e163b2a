"""The experiments on which executors must agree, and how they are carried out."""

from __future__ import annotations

import ray

from fedrevive.assemble import client_trainer, server
from fedrevive.core.process import configure_process
from fedrevive.experiment import run_experiment
from fedrevive.results.store import RunStore
from fedrevive.runtime.ray_executor import RayExecutor
from fedrevive.settings.loading import load
from fedrevive.simulation.executor import InlineExecutor
from fedrevive.tasks import load_task

TINY = ["task.clients=24", "task.samples_per_client=20", "server.concurrency=6", "client.local_steps=3",
        "client.batch_size=8", "stop.arrivals=50", "evaluation.every_arrivals=7"]  # fmt: skip
REVIVE = ["algorithm.name=fedrevive", "algorithm.warmup_versions=8", "algorithm.generate_every_versions=4"]
ADAPTIVE = ["algorithm.name=asyncfeded", "algorithm.target_distance=2.0", "algorithm.local_steps_range=3"]
SLOW_SERVER = ["server.charge_time.flops_per_unit=5e9"]
FAULTS = ["faults.timeout=0.4", "faults.dropout.jobs=0.06", "faults.crash.clients=0.1", "faults.duplicate.jobs=0.1",
          "faults.nan.jobs=0.1", "faults.explosion.clients=0.1", "faults.sign_flip.jobs=0.06",
          "faults.label_flip.jobs=0.1", "server.gate.max_norm_factor=4"]  # fmt: skip
VARIANTS: dict[str, list[str]] = {
    "fedavg": ["algorithm.name=fedavg"],
    "fedasync-constant": ["algorithm.name=fedasync", "algorithm.staleness_weight.family=constant"],
    "fedasync-polynomial": ["algorithm.name=fedasync", "algorithm.proximal=0.01"],
    "fedasync-hinge": ["algorithm.name=fedasync", "algorithm.staleness_weight.family=hinge"],
    "fedbuff": ["algorithm.name=fedbuff", "server.updates_per_version=4"],
    "fedbuff-bfloat16": ["algorithm.name=fedbuff", "client.precision=bfloat16"],
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
    "fedrevive-remembered": [
        *REVIVE,
        "algorithm.remember_answers=true",
        "algorithm.pool_capacity=150",
        "algorithm.teacher_capacity=3",
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
    "faults-fedavg": [*FAULTS, "algorithm.name=fedavg"],
    "faults-fedbuff": [*FAULTS, "algorithm.name=fedbuff", "server.updates_per_version=4"],
    "lost-cohorts": [
        "algorithm.name=fedavg",
        "server.concurrency=2",
        "task.clients=12",
        "client.local_steps=2",
        "faults.timeout=3",
        "faults.dropout.jobs=0.8",
        "stop.arrivals=30",
    ],
    "faults-charged-batch-norm": [*FAULTS, *REVIVE, *SLOW_SERVER, "model.norm=batch"],
    "target": ["algorithm.name=fedbuff", "stop.target_accuracy=0.12", "stop.arrivals=200"],
}


def experiment(variant, *more):
    return load("digits", [*TINY, *VARIANTS[variant], *more])


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


def on_ray(lane, config):
    return RayExecutor(lane, config, ray.put(load_task(config.task, config.seed)))

"""What is simulated: configurations, and random images in the shape of a task, so that no file is needed."""

from __future__ import annotations

import numpy as np

from fedrevive.benchmark.sizes import SEED, SimulationSize
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.loading import load
from fedrevive.tasks import task_info
from fedrevive.tasks.federated import FederatedData, Split

SMALL_CNN = ("task.name=fashion_mnist", "model.name=cnn", "model.width=24", "model.norm=batch")
"""55,090 parameters."""
FEDAVG_CNN = ("task.name=fashion_mnist", "model.name=fedavg_cnn")
"""1,663,370 parameters."""
RESNET = ("task.name=cifar10", "model.name=resnet18", "model.norm=group")
"""11.2 million parameters, GroupNorm."""

SAMPLES_PER_CLIENT = 50
BATCH = 20
SHORT_JOB, LONG_JOB = 3, 5
"""Optimiser steps of a client job, 20 samples each."""
TEACHERS = 8
NEVER = 1_000_000_000

_TRAIN_SAMPLES, _OTHER_SAMPLES = 2000, 64
_QUIET = (
    f"evaluation.every_arrivals={NEVER}",
    "snapshots.every_seconds=1000000",
    f"snapshots.every_arrivals={NEVER}",
)


def simulated(network: tuple[str, ...], size: SimulationSize, steps: int, *more: str) -> ExperimentConfig:
    """FedAsync with log-normal delays (sigma 0.6) and local SGD; evaluated at both ends only, nothing saved between."""
    return load(
        None,
        [
            *network,
            f"seed={SEED}",
            f"task.clients={size.clients}",
            f"task.samples_per_client={SAMPLES_PER_CLIENT}",
            "task.partition.kind=iid",
            "client.optimizer=sgd",
            "client.lr=0.01",
            f"client.batch_size={BATCH}",
            f"client.local_steps={steps}",
            "delays.kind=lognormal",
            "algorithm.name=fedasync",
            "server.lr=0.6",
            f"server.concurrency={size.concurrency}",
            f"stop.arrivals={size.arrivals}",
            "compute.device=cpu",
            *_QUIET,
            *more,
        ],
    )


def distilling(network: tuple[str, ...], pool_samples: int, steps: int, *more: str) -> ExperimentConfig:
    """FedRevive with the published constants; it distils as soon as the version exceeds `TEACHERS`.

    The pool is filled once, with noise images: what they show does not change what they cost.

    Args:
        network: task and model.
        pool_samples: images in the pool.
        steps: K_KD.
        more: further overrides.
    """
    return load(
        None,
        [
            *network,
            f"seed={SEED}",
            "task.clients=1000",
            f"task.samples_per_client={SAMPLES_PER_CLIENT}",
            "server.concurrency=100",
            "server.lr=0.1",
            f"stop.arrivals={NEVER}",
            "algorithm.name=fedrevive",
            "algorithm.beta.family=constant",
            "algorithm.freeze_versions=0",
            f"algorithm.warmup_versions={TEACHERS}",
            f"algorithm.teacher_capacity={TEACHERS}",
            f"algorithm.distill_steps={steps}",
            "algorithm.pool=noise",
            f"algorithm.synthesis_batch={pool_samples}",
            f"algorithm.pool_capacity={pool_samples}",
            "algorithm.generate_every_versions=1000000",
            "algorithm.loss_guard=false",
            "compute.device=cpu",
            *_QUIET,
            *more,
        ],
    )


def random_data(config: ExperimentConfig) -> FederatedData:
    """Uniform uint8 images and labels, spread over the clients at random."""
    info = task_info(config.task)
    random = np.random.Generator(np.random.Philox(SEED))

    def split(count: int) -> Split:
        images = random.integers(0, 256, (count, *info.input_shape), dtype=np.uint8)
        return Split(images, random.integers(0, info.classes, count))

    train = split(_TRAIN_SAMPLES)
    shape = (config.task.clients, config.task.samples_per_client)
    owned = random.integers(0, _TRAIN_SAMPLES, shape, dtype=np.int32)
    other = split(_OTHER_SAMPLES)
    return FederatedData(info, train, validation=other, kd=other, test=other, client_indices=owned)

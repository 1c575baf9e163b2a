"""Executors on a Ray session of our own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import ray
import torch

from fedrevive.assemble import new_model, require_devices, server_device
from fedrevive.runtime.lane import Lane
from fedrevive.runtime.ray_executor import RayExecutor
from fedrevive.runtime.session import ray_session
from fedrevive.runtime.stored import most_per_call
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import ExitCode, UserError
from fedrevive.tasks.federated import FederatedData


@dataclass(frozen=True)
class LaneFactory:
    """Makes executors for one experiment at a time, all of the same actors."""

    lane: Lane

    def __call__(self, config: ExperimentConfig, data: FederatedData) -> RayExecutor:
        """An `ExecutorFactory`."""
        return RayExecutor(self.lane, config, ray.put(data))


@contextmanager
def executor_lanes(
    configs: Sequence[ExperimentConfig],
    data: FederatedData,
    *,
    lanes: int,
    workers: int,
    cpus: int,
    address: str | None = None,
) -> Iterator[list[LaneFactory]]:
    """Start Ray with `lanes` lanes of `workers` client actors each.

    Args:
        configs: the experiments to come; they size the object store.
        data: the data of one of them.
        lanes: experiments that run side by side.
        workers: client actors per lane; lanes * workers <= cpus.
        cpus: CPUs of this machine, or of the cluster.
        address: of a cluster (see `ray_session`); None = a Ray of our own.

    Yields:
        One factory per lane.
    """
    gpus = own_gpus(configs[0]) if address is None else 0
    store = lanes * max(store_bytes(config, data) for config in _distinct(configs))
    with ray_session(cpus=cpus, gpus=gpus, object_store_bytes=store, address=address):
        if address is not None:
            gpus = cluster_gpus(configs[0])
        share = min(1.0, gpus / lanes)
        with open_lanes(lanes, workers=workers, gpu=share, spread=address is not None) as factories:
            yield factories


def own_gpus(config: ExperimentConfig) -> int:
    """GPUs of this machine that servers use.

    Raises:
        UserError: exit code 5, a device that was asked for is not there.
    """
    require_devices(config)
    return torch.cuda.device_count() if server_device(config).type == "cuda" else 0


def cluster_gpus(config: ExperimentConfig) -> int:
    """GPUs of the cluster that this process is connected to, as far as servers use them.

    Raises:
        UserError: exit code 5, servers were told to use one and there is none.
    """
    if config.compute.device == "cpu":
        return 0
    gpus = int(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
    if config.compute.device == "cuda" and not gpus:
        raise UserError(
            "compute.device: cuda, but no node of the cluster has a GPU; use auto or cpu",
            exit_code=ExitCode.ENVIRONMENT,
        )
    return gpus


@contextmanager
def open_lanes(lanes: int, *, workers: int, gpu: float, spread: bool = False) -> Iterator[list[LaneFactory]]:
    """Lanes in the Ray session that is already there; within a trial of a search they share its placement group.

    Args:
        lanes: experiments that run side by side.
        workers: client actors per lane.
        gpu: share of a GPU that each lane's server asks for; 0 = none.
        spread: put client actors on as many nodes as possible; they leave the placement group for that.
    """
    opened = [Lane(workers, gpu=gpu, spread=spread) for _ in range(lanes)]
    try:
        yield [LaneFactory(lane) for lane in opened]
    finally:
        for lane in opened:
            lane.close()


def _distinct(configs: Sequence[ExperimentConfig]) -> list[ExperimentConfig]:
    """One configuration per model and number of clients in flight."""
    return list({(config.model, config.server.concurrency): config for config in configs}.values())


def store_bytes(config: ExperimentConfig, data: FederatedData) -> int:
    """Shared memory one lane needs: the data, an update and a base model per client in flight.

    Both keep those they share an object with until the last one is used: with 16 to an object, three to seven models
    per client in all, the wider durations are spread the more. Beyond it Ray writes objects to disk.
    """
    splits = (data.train, data.validation, data.kd, data.test)
    arrays = sum(split.inputs.nbytes + split.labels.nbytes for split in splits) + data.client_indices.nbytes
    model = 4 * new_model(config, "cpu").spec.size
    concurrency = config.server.concurrency
    models = 2 * concurrency + min(5, most_per_call(model, concurrency) - 1) * concurrency + 64
    return int(1.3 * arrays) + models * model + (64 << 20)

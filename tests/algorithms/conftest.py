"""A small asynchronous world: a real model, stale bases, clients that move it by reproducible noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fedrevive.algorithms import ServerAlgorithm, ServerContext, ServerState, build_algorithm
from fedrevive.core.messages import ClientUpdate, ModelSnapshot, StepInfo
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.algorithm import AlgorithmSettings
from fedrevive.settings.experiment import ServerSettings, StopSettings
from fedrevive.settings.model import CnnSettings
from fedrevive.tasks.federated import TaskInfo
from fedrevive.tasks.models import build_model, forward_flops

INFO = TaskInfo("toy", (1, 8, 8), 3, (0.4,), (0.3,))

Step = tuple[ServerState, StepInfo]


def make_context(norm: str = "none", seed: int = 3) -> ServerContext:
    def new_model():
        return build_model(CnnSettings(width=4, norm=norm), INFO, seed)

    model = new_model()
    return ServerContext(
        new_model=new_model,
        initial_model=model.vector.clone(),
        spec=model.spec,
        input_shape=INFO.input_shape,
        classes=INFO.classes,
        mean=INFO.mean,
        std=INFO.std,
        forward_flops=forward_flops(model, INFO),
        device=torch.device("cpu"),
        seed=seed,
    )


def make_config(
    algorithm: AlgorithmSettings, *, concurrency: int = 4, lr: float = 0.5, updates: int | str = "auto"
) -> ExperimentConfig:
    server = ServerSettings(concurrency=concurrency, lr=lr, updates_per_version=updates)
    return ExperimentConfig(algorithm=algorithm, server=server, stop=StopSettings(arrivals=1))


def client_update(base: ModelSnapshot, context: ServerContext, client: int, job: int) -> ClientUpdate:
    """Parameters move by noise; buffers become new, non-negative statistics, some of them zero or huge."""
    random = np.random.default_rng(job)
    count = context.spec.parameter_count
    model = base.model.copy()
    model[:count] += 0.05 * random.standard_normal(count).astype(np.float32)
    model[count:] = np.exp(4 * random.standard_normal(context.spec.buffer_count)) - np.exp(-4)
    model[count:] = np.maximum(model[count:], 0)
    model.flags.writeable = False
    return ClientUpdate(client, job, model, samples=1, train_loss=0.0)


def snapshot_of(state: ServerState) -> ModelSnapshot:
    return ModelSnapshot(state.version, state.model.numpy().copy())


def drive_algorithm(
    algorithm: ServerAlgorithm, context: ServerContext, arrivals: int, concurrency: int, clients: int = 6
) -> list[Step]:
    """K slots; a random one arrives next and is refilled from the then current model."""
    random = np.random.default_rng(1)
    state = algorithm.init()
    slots = [snapshot_of(state)] * concurrency
    steps = []
    for job in range(arrivals):
        slot = int(random.integers(concurrency))
        state, info = algorithm.apply(
            state, slots[slot], client_update(slots[slot], context, job % clients, job)
        )
        slots[slot] = snapshot_of(state)
        steps.append((state, info))
    return steps


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def context_of() -> Callable[..., ServerContext]:
    return make_context


@pytest.fixture
def config_of() -> Callable[..., ExperimentConfig]:
    return make_config


@pytest.fixture
def update_of() -> Callable[..., ClientUpdate]:
    return client_update


@pytest.fixture
def drive() -> Callable[..., list[Step]]:
    """drive(settings, arrivals=..., norm=..., concurrency=..., lr=..., updates=...) -> [(state, info)]."""

    def run(
        settings: AlgorithmSettings, *, arrivals: int = 16, norm: str = "none", concurrency: int = 4, **server
    ) -> list[Step]:
        context = make_context(norm)
        config = make_config(settings, concurrency=concurrency, **server)
        return drive_algorithm(build_algorithm(config, context), context, arrivals, concurrency)

    return run

"""A small asynchronous world: a real model, stale bases, clients that move it by reproducible noise."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fedrevive.algorithms import ServerAlgorithm, ServerContext, ServerState, build_algorithm
from fedrevive.algorithms.server_algorithm import Oracle, needs_oracle
from fedrevive.core.generator import build_generator
from fedrevive.core.messages import ClientUpdate, ModelSnapshot, StepInfo
from fedrevive.core.model_state import FlatModel
from fedrevive.core.state_tree import encode
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.algorithm import AlgorithmSettings
from fedrevive.settings.experiment import ServerSettings, StopSettings
from fedrevive.settings.fedrevive import FedReviveSettings
from fedrevive.settings.model import CnnSettings, TextTransformerSettings
from fedrevive.settings.task import DigitsTask
from fedrevive.tasks.federated import TaskInfo
from fedrevive.tasks.models import build_model, forward_flops

INFO = TaskInfo("toy", (1, 8, 8), 3, (0.4,), (0.3,))
TEXTS = TaskInfo("toy", (6,), 3, (), (), vocabulary=20)

Step = tuple[ServerState, StepInfo]

SMALL = FedReviveSettings(
    teacher_capacity=3,
    generate_every_versions=2,
    freeze_versions=2,
    warmup_versions=4,
    probe_samples=8,
    synthesis_batch=8,
    latent_size=4,
    generator_width=4,
    pool_capacity=20,
    distill_steps=3,
    distill_batch=4,
    distill_lr=1e-3,
)


def make_context(
    norm: str = "none",
    seed: int = 3,
    oracle: Oracle | None = None,
    settings: AlgorithmSettings = SMALL,
    info: TaskInfo = INFO,
) -> ServerContext:
    """The context of `settings`, which matter only where they name a pre-trained generator."""
    network = CnnSettings(width=4, norm=norm) if info is INFO else TextTransformerSettings(width=8, layers=1)

    def new_model():
        return build_model(network, info, seed)

    model = new_model()
    weights = None
    if isinstance(settings, FedReviveSettings) and settings.generator_file is not None:
        weights = build_generator(settings, info.input_shape, 99, torch.device("cpu")).state_dict()
    return ServerContext(
        new_model=new_model,
        initial_model=model.vector.clone(),
        spec=model.spec,
        input_shape=info.input_shape,
        classes=info.classes,
        mean=info.mean,
        std=info.std,
        forward_flops=forward_flops(model, info),
        device=torch.device("cpu"),
        seed=seed,
        oracle=oracle,
        vocabulary=info.vocabulary,
        generator_weights=weights,
    )


def make_oracle() -> Oracle:
    random = torch.Generator().manual_seed(8)
    return Oracle(
        class_histograms=torch.randint(0, 9, (6, INFO.classes), generator=random)
        + torch.eye(6, INFO.classes).long(),
        kd_inputs=torch.randint(0, 256, (30, *INFO.input_shape), generator=random).to(torch.uint8),
        kd_labels=torch.arange(30) % INFO.classes,
    )


def make_config(
    algorithm: AlgorithmSettings,
    *,
    concurrency: int = 4,
    lr: float = 0.5,
    updates: int | str = "auto",
    clients: int = 100,
) -> ExperimentConfig:
    server = ServerSettings(concurrency=concurrency, lr=lr, updates_per_version=updates)
    return ExperimentConfig(
        task=DigitsTask(clients=clients), algorithm=algorithm, server=server, stop=StopSettings(arrivals=1)
    )


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


TARGETS = np.array([[4.0, 0.0], [0.0, 8.0]], np.float32)


def quadratic_context() -> ServerContext:
    """Two parameters that start at (0, 0)."""

    def new_model() -> FlatModel:
        module = nn.Linear(2, 1, bias=False)
        nn.init.zeros_(module.weight)
        return FlatModel(module, "reset")

    model = new_model()
    return ServerContext(
        new_model=new_model,
        initial_model=model.vector.detach().clone(),
        spec=model.spec,
        input_shape=(1, 8, 8),
        classes=2,
        mean=(0.0,),
        std=(1.0,),
        forward_flops=4,
        device=torch.device("cpu"),
        seed=0,
    )


def two_logit_context(oracle: Oracle | None = None) -> ServerContext:
    """Two parameters that start at (0, 0): times the value of the only pixel, they are the two logits."""

    def new_model() -> FlatModel:
        module = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
        nn.init.zeros_(module[1].weight)
        return FlatModel(module, "reset")

    spec = new_model().spec
    return replace(quadratic_context(), new_model=new_model, spec=spec, input_shape=(1, 1, 1), oracle=oracle)


def quadratic_trace(
    settings: AlgorithmSettings, arrivals: list[tuple[int, int]], targets=TARGETS, context=None, **server
) -> list[Step]:
    """Apply `arrivals` of (client, number of arrivals its base had seen).

    Client i descends |x - target_i|^2 / 2 once with step 1/2: it returns the midpoint of its base and its target.
    """
    algorithm = build_algorithm(make_config(settings, **server), context or quadratic_context())
    states, steps = [algorithm.init()], []
    for job, (client, seen) in enumerate(arrivals):
        base = ModelSnapshot(states[seen].version, states[seen].model.numpy())
        trained = base.model + (targets[client] - base.model) / 2
        state, info = algorithm.apply(states[-1], base, ClientUpdate(client, job, trained, 1, 0.0))
        states.append(state)
        steps.append((state, info))
    return steps


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small() -> Callable[..., FedReviveSettings]:
    """small(field=value, ...): FedRevive at the size of this world, every phase within a dozen arrivals."""
    return lambda **fields: SMALL.model_copy(update=fields)


@pytest.fixture(scope="session")
def encoded() -> Callable[[ServerState], tuple[str, dict[str, bytes]]]:
    """A state as what is saved, in every bit."""

    def to_bytes(state: ServerState) -> tuple[str, dict[str, bytes]]:
        structure, arrays = encode(state)
        return json.dumps(structure), {name: array.tobytes() for name, array in arrays.items()}

    return to_bytes


@pytest.fixture(scope="session")
def context_of() -> Callable[..., ServerContext]:
    return make_context


@pytest.fixture(scope="session")
def infos() -> dict[str, TaskInfo]:
    """The world's task as images and as texts."""
    return {"images": INFO, "texts": TEXTS}


@pytest.fixture(scope="session")
def oracle_of() -> Callable[[], Oracle]:
    return make_oracle


@pytest.fixture(scope="session")
def config_of() -> Callable[..., ExperimentConfig]:
    return make_config


@pytest.fixture(scope="session")
def update_of() -> Callable[..., ClientUpdate]:
    return client_update


@pytest.fixture(scope="session")
def quadratic() -> Callable[..., ServerContext]:
    return quadratic_context


@pytest.fixture(scope="session")
def two_logits() -> Callable[..., ServerContext]:
    return two_logit_context


@pytest.fixture(scope="session")
def trace() -> Callable[..., list[Step]]:
    """trace(settings, [(client, base's arrivals), ...], concurrency=..., lr=..., context=...) -> [(state, info)]."""
    return quadratic_trace


@pytest.fixture(scope="session")
def drive() -> Callable[..., list[Step]]:
    """drive(settings, arrivals=, norm=, info=, concurrency=, lr=, updates=) -> [(state, info)]; with an
    oracle for settings that ask for one.
    """

    def run(
        settings: AlgorithmSettings,
        *,
        arrivals: int = 16,
        norm: str = "none",
        info: TaskInfo = INFO,
        concurrency: int = 4,
        **server,
    ) -> list[Step]:
        oracle = make_oracle() if needs_oracle(settings) else None
        context = make_context(norm, oracle=oracle, settings=settings, info=info)
        config = make_config(settings, concurrency=concurrency, **server)
        return drive_algorithm(build_algorithm(config, context), context, arrivals, concurrency)

    return run

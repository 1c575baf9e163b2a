"""Small runs that share a prefix. Imported first, so that Ray finds the environment our runtime sets for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fedrevive.runtime  # noqa: F401
from fedrevive.assemble import client_trainer, server
from fedrevive.cli.execution import manifest
from fedrevive.core.process import configure_process
from fedrevive.experiment import run_experiment
from fedrevive.fork import make_prefix, prefix_config
from fedrevive.results.store import RunStore
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.loading import load
from fedrevive.simulation.executor import Executor, InlineExecutor
from fedrevive.tasks import load_task

TINY = ["task.clients=24", "task.samples_per_client=20", "server.concurrency=6", "client.local_steps=3",
        "client.batch_size=8", "stop.arrivals=28", "evaluation.every_arrivals=7", "model.width=4"]  # fmt: skip
REVIVE = ["algorithm.name=fedrevive", "algorithm.freeze_versions=12", "algorithm.warmup_versions=16",
          "algorithm.generate_every_versions=4", "algorithm.distill_steps=2", "algorithm.distill_batch=8",
          "algorithm.synthesis_batch=8", "algorithm.latent_size=8", "algorithm.generator_width=4"]  # fmt: skip


def words(*overrides: str) -> list[str]:
    """Overrides of a small experiment; of FedRevive unless another algorithm is named."""
    revive = () if any(word.startswith("algorithm.name=") for word in overrides) else REVIVE
    return [*TINY, *revive, *overrides]


def trial(*overrides: str) -> ExperimentConfig:
    return load("digits", words(*overrides))


def inline(config: ExperimentConfig) -> InlineExecutor:
    configure_process()
    data = load_task(config.task, config.seed)
    return InlineExecutor(server(config, data), client_trainer(config, data))


def finish(
    config: ExperimentConfig,
    store: RunStore,
    executor: Executor | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """Run to the end and close; the hashes, None when interrupted."""
    with store:
        for _ in run_experiment(config, store, executor or inline(config), interrupted=interrupted):
            pass
        return store.manifest["hashes"] if store.finished else None


def prefix(
    config: ExperimentConfig,
    folder: Path,
    arrivals: int,
    capacity: int | None = None,
    executor: Executor | None = None,
) -> Path:
    """Make a prefix of `config`'s run and return its folder."""
    shared = prefix_config(config, arrivals, capacity)
    with RunStore.open(folder, manifest=manifest(shared)) as store:
        for _ in make_prefix(shared, store, executor or inline(shared)):
            pass
    return folder


class Runs:
    """What the tests do with small runs."""

    words = staticmethod(words)
    trial = staticmethod(trial)
    inline = staticmethod(inline)
    finish = staticmethod(finish)
    prefix = staticmethod(prefix)


@pytest.fixture
def runs() -> type[Runs]:
    return Runs

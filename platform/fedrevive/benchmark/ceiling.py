"""The ceiling: client jobs in a tight loop, without clients, server, clock or messages.

Same network, same samples per job, same number of steps, the kernels and memory settings known to be best: one thread
per process, channels last, batches indexed from preloaded uint8 images, one flat vector for parameters and gradient,
an allocator that keeps freed pages.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from fedrevive.assemble import new_model
from fedrevive.benchmark.measuring import Sample
from fedrevive.benchmark.problems import random_data
from fedrevive.benchmark.processes import proportional_bytes
from fedrevive.benchmark.sizes import SEED
from fedrevive.core.model_state import FlatModel
from fedrevive.core.process import configure_process
from fedrevive.settings import ExperimentConfig

A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True)
class TightLoop:
    """Everything a job needs, preloaded."""

    model: FlatModel
    base: Tensor
    """[P + S], what every job starts from."""
    images: Tensor
    """uint8 [n, H, W, C]."""
    labels: Tensor
    """[n]."""
    owned: Tensor
    """[N, samples]: rows of each client."""
    mean: Tensor
    std: Tensor
    batch: int
    steps: int
    lr: float

    def job(self, client: int, random: torch.Generator) -> Tensor:
        """Train one client; the result [P + S] in memory of its own."""
        rows = self.owned[client]
        passes = math.ceil(self.steps * self.batch / len(rows))
        order = torch.cat([torch.randperm(len(rows), generator=random) for _ in range(passes)])
        return self.trained(rows[order[: self.steps * self.batch]])

    def trained(self, rows: Tensor) -> Tensor:
        """Train on the images `rows` [steps * batch], in their order."""
        model = self.model
        model.vector.copy_(self.base)
        scaled = self.images[rows].float().div_(255.0).sub_(self.mean).div_(self.std)
        images, labels = scaled.permute(0, 3, 1, 2), self.labels[rows]
        for start in range(0, len(rows), self.batch):
            model.gradient.zero_()
            logits = model.module(images[start : start + self.batch])
            functional.cross_entropy(logits, labels[start : start + self.batch]).backward()  # type: ignore[no-untyped-call]
            model.parameters.add_(model.gradient, alpha=-self.lr)
        return model.vector.clone()


def tight_loop(config: ExperimentConfig) -> TightLoop:
    """The loop that does the client work of `config` (plain SGD)."""
    data, model = random_data(config), new_model(config, "cpu")
    model.module.train()
    return TightLoop(
        model=model,
        base=model.vector.clone(),
        images=torch.from_numpy(data.train.inputs).permute(0, 2, 3, 1).contiguous(),
        labels=torch.from_numpy(data.train.labels),
        owned=torch.from_numpy(data.client_indices).long(),
        mean=torch.tensor(data.info.mean),
        std=torch.tensor(data.info.std),
        batch=config.client.batch_size,
        steps=config.client.local_steps,
        lr=config.client.lr,
    )


_loops: dict[str, TightLoop] = {}
"""Of this process, by configuration: made once, before anything is timed."""


@dataclass(frozen=True)
class _Done:
    cpu_seconds: float
    wall_seconds: float
    checksum: str


def _jobs(work: tuple[ExperimentConfig, int, int]) -> _Done:
    """Train clients in a row: configuration, jobs to warm up with, jobs to measure. Runs in a process of its own."""
    config, warm_up, updates = work
    key = config.model_dump_json()
    if key not in _loops:
        _loops.clear()
        _loops[key] = tight_loop(config)
    loop, random = _loops[key], torch.Generator().manual_seed(SEED)
    clients = len(loop.owned)
    for update in range(warm_up):
        loop.job(update % clients, random)
    random.manual_seed(SEED)
    cpu, clock = time.process_time(), time.perf_counter()
    for update in range(updates):
        latest = loop.job(update % clients, random)
    seconds = time.process_time() - cpu, time.perf_counter() - clock
    return _Done(*seconds, hashlib.sha256(latest.numpy().tobytes()).hexdigest())


class LoopProcesses:
    """Processes that run the tight loop, all at the same time."""

    def __init__(self, executors: list[ProcessPoolExecutor], pids: list[int]) -> None:
        self._executors, self._pids = executors, pids

    def each(self, function: Callable[[A], R], arguments: Sequence[A]) -> list[R]:
        """Call `function` with one argument in each of the first processes, all at the same time."""
        started = [one.submit(function, a) for one, a in zip(self._executors, arguments, strict=False)]
        return [future.result() for future in started]

    def measure(self, config: ExperimentConfig, processes: int, *, warm_up: int, updates: int) -> Sample:
        """`updates` jobs, divided among the first `processes` processes."""
        share = math.ceil(updates / processes)
        done = self.each(_jobs, [(config, warm_up, share)] * processes)
        return Sample(
            cpu_ms=1e3 * sum(one.cpu_seconds for one in done) / (share * processes),
            wall_ms=1e3 * max(one.wall_seconds for one in done) / (share * processes),
            checksum=hashlib.sha256("".join(one.checksum for one in done).encode()).hexdigest(),
            more={"peak_pss": proportional_bytes(self._pids[:processes]) / 1e6},
        )


@contextmanager
def loop_processes(count: int) -> Iterator[LoopProcesses]:
    """Start `count` processes with one torch thread each."""
    with ExitStack() as stack:
        executors = [
            stack.enter_context(
                ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=configure_process)
            )
            for _ in range(count)
        ]
        pids = [future.result() for future in [one.submit(os.getpid) for one in executors]]
        yield LoopProcesses(executors, pids)

"""What workloads share: sizes, the tight loop's processes, one Ray session; each started when first asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from types import TracebackType
from typing import Self

from fedrevive.benchmark.ceiling import LoopProcesses, loop_processes
from fedrevive.benchmark.sizes import WORKERS, Sizes
from fedrevive.core.process import configure_process
from fedrevive.followed_run import ExecutorFactory
from fedrevive.settings import ExperimentConfig

STORE_BYTES = 2 << 30
"""Object store of the session, enough for every workload; memory is taken as it is used."""


class Bench:
    """A context: everything it started is gone when it ends.

    Args:
        sizes: how much is done.
    """

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.ray_seconds = 0.0
        """From before Ray's import until it was up; torch is imported already. 0 before the first lane."""
        self._stack = ExitStack()
        self._ray: ExitStack | None = None

    def __enter__(self) -> Self:
        configure_process()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end_ray()
        self._stack.close()

    @cached_property
    def loops(self) -> LoopProcesses:
        """The processes of the tight loop."""
        return self._stack.enter_context(loop_processes(WORKERS))

    @contextmanager
    def lane(self, config: ExperimentConfig, workers: int) -> Iterator[ExecutorFactory]:
        """Fresh actors: a server and `workers` clients."""
        self.start_ray()
        from fedrevive.runtime.launch import open_lanes

        with open_lanes(1, workers=workers, gpu=0) as (make,):
            yield make

    def start_ray(self) -> None:
        """Start Ray unless it is up already."""
        if self._ray is not None:
            return
        clock = time.perf_counter()
        from fedrevive.runtime.session import ray_session

        self._ray = ExitStack()
        self._ray.enter_context(ray_session(cpus=WORKERS, gpus=0, object_store_bytes=STORE_BYTES))
        self.ray_seconds = time.perf_counter() - clock

    def end_ray(self) -> None:
        """Shut Ray down; the next lane starts it again."""
        if self._ray is not None:
            self._ray.close()
            self._ray = None

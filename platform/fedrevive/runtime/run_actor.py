"""Whole runs, each in one actor: the cheapest way to carry out many small runs, nothing moves between processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from fedrevive.followed_run import RunIdentity, RunStatus, run_inline
from fedrevive.runtime.launch import cluster_gpus, own_gpus
from fedrevive.runtime.session import SMALLEST_STORE, ray_session
from fedrevive.runtime.waiting import SLICE_SECONDS, cause_of, require_node
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import ExitCode, UserError

ATTEMPTS = 3
"""Deaths of a run's actor without any progress between them, after which the comparison gives up."""
POLL_SECONDS = 0.2


class RunActor:
    """Carries out one run at a time; `stop` is heard while it does."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def run(
        self, config: ExperimentConfig, folder: str, manifest: Mapping[str, Any], download: bool
    ) -> Iterator[RunStatus]:
        """See `followed_run.run_inline`."""
        identity = RunIdentity(Path(folder), manifest)
        yield from run_inline(config, identity, download, self._stopped.is_set)

    def stop(self) -> None:
        """Make the run, and any later one, save a snapshot and end."""
        self._stopped.set()


class RunLane:
    """One run at a time on an actor, which is replaced when it dies; its run goes on from the latest snapshot."""

    def __init__(self, gpu: float) -> None:
        self._gpu = gpu
        self._actor = self._start()

    def run(
        self,
        config: ExperimentConfig,
        identity: RunIdentity,
        download: bool,
        interrupted: Callable[[], bool],
    ) -> Iterator[RunStatus]:
        """Carry out what is missing of a run.

        Raises:
            UserError: what the run raised, or its actor died several times over (exit code 5).
        """
        deaths, furthest = 0, -1
        while True:
            try:
                for made in self._attempt(config, identity, download, interrupted):
                    if made.arrivals > furthest:
                        deaths, furthest = 0, made.arrivals
                    yield made
            except RayActorError as error:
                deaths += 1
                if deaths >= ATTEMPTS:
                    raise UserError(
                        f"compute: a run lost its actor {ATTEMPTS} times ({type(error).__name__}); is there enough "
                        "memory? the comparison can be resumed",
                        exit_code=ExitCode.ENVIRONMENT,
                    ) from None
                self._actor = self._start()
            else:
                return

    def close(self) -> None:
        """End the actor."""
        ray.kill(self._actor)

    def _start(self) -> Any:
        # Two threads: one runs, one hears `stop`.
        options = {"num_cpus": 1, "num_gpus": self._gpu, "max_concurrency": 2, "max_restarts": 0}
        return ray.remote(RunActor).options(**options).remote()

    def _attempt(
        self,
        config: ExperimentConfig,
        identity: RunIdentity,
        download: bool,
        interrupted: Callable[[], bool],
    ) -> Iterator[RunStatus]:
        remote = self._actor.run.options(num_returns="streaming", max_task_retries=0)
        stream = remote.remote(config, str(identity.folder.absolute()), dict(identity.manifest), download)
        told, silent = False, 0.0
        while True:
            if interrupted() and not told:
                self._actor.stop.remote()
                told = True
            ready, _ = ray.wait([stream], timeout=POLL_SECONDS)
            silent = 0.0 if ready else silent + POLL_SECONDS
            if silent >= SLICE_SECONDS:
                require_node()
                silent = 0.0
            if not ready:
                continue
            try:
                yield ray.get(next(stream))
            except StopIteration:
                return
            except RayTaskError as error:
                raise cause_of(error) from None


@contextmanager
def run_lanes(
    config: ExperimentConfig, *, lanes: int, cpus: int, address: str | None = None
) -> Iterator[list[RunLane]]:
    """Start Ray with one actor per run that takes place at a time.

    Args:
        config: one of the experiments; where they compute is the same for all.
        lanes: runs side by side.
        cpus: CPUs of this machine, or of the cluster.
        address: of a cluster (see `ray_session`); None = a Ray of our own.
    """
    gpus = own_gpus(config) if address is None else 0
    with ray_session(cpus=cpus, gpus=gpus, object_store_bytes=SMALLEST_STORE, address=address):
        if address is not None:
            gpus = cluster_gpus(config)
        opened = [RunLane(min(1.0, gpus / lanes)) for _ in range(lanes)]
        try:
            yield opened
        finally:
            for lane in opened:
                lane.close()

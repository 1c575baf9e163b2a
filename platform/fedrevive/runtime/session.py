"""Starting Ray, and lanes: one server actor with its client actors, reused from one experiment to the next."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray

from fedrevive.runtime.client_actor import ClientActor
from fedrevive.runtime.server_actor import ServerActor
from fedrevive.settings.errors import ExitCode, UserError

_MIB = 1 << 20
SMALLEST_STORE = 128 * _MIB


@dataclass
class Lane:
    """The actors of one experiment at a time."""

    server: Any
    clients: list[Any] = field(default_factory=list)

    def replace_client(self, index: int) -> Any:
        """Start a new client actor in the place of a dead one."""
        self.clients[index] = _start(ClientActor, num_cpus=1)
        return self.clients[index]

    def close(self) -> None:
        """End the actors."""
        for actor in (self.server, *self.clients):
            ray.kill(actor)


def open_lane(workers: int, *, gpu: float) -> Lane:
    """Start a server actor and `workers` client actors.

    Args:
        workers: client actors; the caller has checked that the machine has as many CPUs.
        gpu: share of a GPU the server asks for; 0 = none.
    """
    return Lane(
        server=_start(ServerActor, num_cpus=0, num_gpus=gpu),
        clients=[_start(ClientActor, num_cpus=1) for _ in range(workers)],
    )


@contextmanager
def ray_session(*, cpus: int, gpus: int, object_store_bytes: int) -> Iterator[None]:
    """A Ray cluster of our own on this machine, shut down at the end.

    Args:
        cpus: CPUs Ray may hand out.
        gpus: GPUs torch sees; given rather than detected, so that a request can always be met.
        object_store_bytes: shared memory for models and data; at least 128 MiB is taken.

    Raises:
        UserError: Ray does not start (exit code 5).
    """
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address="local",
            num_cpus=cpus,
            num_gpus=gpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
            object_store_memory=max(SMALLEST_STORE, object_store_bytes),
        )
    except Exception as error:  # Ray raises bare ones when its processes take longer than half a minute
        ray.shutdown()
        raise UserError(
            f"compute: Ray did not start, is this machine overloaded? ({error})",
            exit_code=ExitCode.ENVIRONMENT,
        ) from error
    signal.signal(signal.SIGTERM, on_terminate)  # Ray puts its own, which exits without a snapshot
    try:
        yield
    finally:
        ray.shutdown()


def _start(kind: type, **options: float) -> Any:
    return ray.remote(kind).options(max_restarts=0, max_task_retries=0, **options).remote()

"""A Ray cluster of our own on this machine."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import ray
from ray._private import services

from fedrevive.runtime.cluster_session import cluster_session
from fedrevive.runtime.head_watch import watched_head
from fedrevive.runtime.private_session import private_session
from fedrevive.settings.errors import ExitCode, UserError

_MIB = 1 << 20
SMALLEST_STORE = 128 * _MIB


@contextmanager
def ray_session(
    *, cpus: int, gpus: int, object_store_bytes: int, address: str | None = None
) -> Iterator[None]:
    """A Ray cluster of our own on this machine, shut down at the end; this process ends when its head dies.

    With an `address` it is the cluster there instead, which has its own processors and store and stays.

    Ray's health checks stay as slow as they are: on one node they find nothing that `watched_head` does not see at
    once, and faster ones could take a busy machine for a dead one.

    Args:
        cpus: CPUs Ray may hand out.
        gpus: GPUs torch sees; given rather than detected, so that a request can always be met.
        object_store_bytes: shared memory for models and data; at least 128 MiB is taken.
        address: host:port of the head of a cluster that has let us in (`cluster_address.require_cluster`).

    Raises:
        UserError: Ray does not start (exit code 5), or is to start without authentication (2).
    """
    if address is not None:
        with cluster_session(address):
            yield
        return
    with _own_session(cpus, gpus, max(SMALLEST_STORE, object_store_bytes)):
        yield


@contextmanager
def _own_session(cpus: int, gpus: int, store: int) -> Iterator[None]:
    on_terminate = signal.getsignal(signal.SIGTERM)
    with private_session() as folder:
        try:
            with _own_process_groups():
                ray.init(
                    address="local",
                    num_cpus=cpus,
                    num_gpus=gpus,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    configure_logging=True,
                    object_store_memory=store,
                    _temp_dir=str(folder),
                )
        except Exception as error:  # Ray raises bare ones when its processes take longer than half a minute
            ray.shutdown()
            raise UserError(
                f"compute: Ray did not start, is this machine overloaded? its logs are in {folder} ({error})",
                exit_code=ExitCode.ENVIRONMENT,
            ) from error
        signal.signal(signal.SIGTERM, on_terminate)  # Ray puts its own, which exits without a snapshot
        try:
            with watched_head():
                yield
        finally:
            ray.shutdown()


@contextmanager
def _own_process_groups() -> Iterator[None]:
    """Processes that Ray starts in the block leave the group of this one.

    A signal to the group, as `timeout` and job queues send it, is for the command: it needs Ray for its last snapshot
    and ends it afterwards.
    """
    original = services.ConsolePopen
    services.ConsolePopen = partial(original, process_group=0)  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        services.ConsolePopen = original  # type: ignore[misc]

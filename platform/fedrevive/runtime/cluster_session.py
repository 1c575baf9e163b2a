"""A Ray cluster that is there already: a driver inside it connects, works, and leaves it as it was."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from fedrevive.runtime.cluster_address import VARIABLE
from fedrevive.runtime.head_watch import watched_address
from fedrevive.settings.errors import ExitCode, UserError

_FORWARDED = ("OMP_NUM_THREADS", "RAY_CHDIR_TO_TRIAL_DIR", "TUNE_FUNCTION_THREAD_TIMEOUT_S")
"""Variables that workers of a Ray of our own inherit, and those of a cluster must be given."""


@contextmanager
def cluster_session(address: str) -> Iterator[None]:
    """Connect to the cluster whose head is at `address` (host:port); this process ends when that dies.

    Raises:
        UserError: Ray does not connect (exit code 5).
    """
    on_terminate = signal.getsignal(signal.SIGTERM)
    elsewhere = os.environ.pop(VARIABLE, None)  # Ray would prefer it to the address it is given
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
            runtime_env={"env_vars": {name: os.environ[name] for name in _FORWARDED if name in os.environ}},
        )
    except Exception as error:  # Ray raises bare ones
        ray.shutdown()
        raise UserError(
            f"--address: Ray does not connect to {address}; a driver runs on a node of the cluster ({error})",
            exit_code=ExitCode.ENVIRONMENT,
        ) from error
    finally:
        if elsewhere is not None:
            os.environ[VARIABLE] = elsewhere
    if signal.getsignal(signal.SIGTERM) is not on_terminate:
        signal.signal(signal.SIGTERM, on_terminate)
    try:
        with watched_address(address):
            yield
    finally:
        ray.shutdown()

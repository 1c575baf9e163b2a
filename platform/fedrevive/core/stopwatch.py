"""How long a piece of work took, in real and in processor time."""

from __future__ import annotations

import os
import socket
import time

from fedrevive.core.messages import Timing


class Stopwatch:
    """Started when made; read it in the thread that did the work."""

    def __init__(self) -> None:
        self._started = time.time()
        self._real = time.perf_counter()
        self._cpu = time.thread_time()

    def timing(self, kind: str, sequence: int | None = None) -> Timing:
        """What has passed since the start.

        Args:
            kind: train, apply or evaluate.
            sequence: arrival the work belongs to.
        """
        return Timing(
            kind=kind,
            sequence=sequence,
            worker=f"pid-{os.getpid()}",
            host=socket.gethostname(),
            started_at=self._started,
            duration_ms=(time.perf_counter() - self._real) * 1e3,
            cpu_ms=(time.thread_time() - self._cpu) * 1e3,
        )

"""Lanes: one server actor with its client actors, reused from one experiment to the next."""

from __future__ import annotations

from typing import Any

import ray

from fedrevive.runtime.client_actor import ClientActor
from fedrevive.runtime.server_actor import ServerActor


class Lane:
    """A server actor and client actors for one experiment at a time; whoever dies is replaced.

    Args:
        workers: client actors; the caller has checked that the machine has as many CPUs.
        gpu: share of a GPU the server asks for; 0 = none.
        spread: put client actors on as many nodes as possible.
    """

    def __init__(self, workers: int, *, gpu: float, spread: bool = False) -> None:
        self._gpu = gpu
        self._placed = {"scheduling_strategy": "SPREAD"} if spread else {}
        self.server = self._start_server()
        self.clients = [self._start_client() for _ in range(workers)]
        self.server_pid: int | None = None
        """Process id of the server actor; None until it is known."""
        self.client_pids: dict[int, int] = {}
        """Process ids by position in `clients`, of those that are known."""

    def pids(self) -> dict[str, list[int]]:
        """Process ids that are known, by kind of actor."""
        server = [] if self.server_pid is None else [self.server_pid]
        return {"client": list(self.client_pids.values()), "server": server}

    def replace_server(self) -> None:
        """End the server actor, which may be alive but out of reach, and start another in its place."""
        self.server_pid = None
        ray.kill(self.server)
        self.server = self._start_server()

    def replace_client(self, index: int) -> None:
        """End a client actor, which may be alive but out of reach, and start another in its place."""
        self.client_pids.pop(index, None)
        ray.kill(self.clients[index])
        self.clients[index] = self._start_client()

    def close(self) -> None:
        """End the actors."""
        for actor in (self.server, *self.clients):
            ray.kill(actor)

    def _start_server(self) -> Any:
        return _start(ServerActor, num_cpus=0, num_gpus=self._gpu)

    def _start_client(self) -> Any:
        return _start(ClientActor, num_cpus=1, **self._placed)


def _start(kind: type, **options: float | str) -> Any:
    return ray.remote(kind).options(max_restarts=0, max_task_retries=0, **options).remote()

"""One experiment on a Ray session of the test's own: `python ray_driver.py FOLDER nodes SIGNAL | rpc`; prints JSON."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fedrevive.runtime  # noqa: F401  # first: it sets what Ray reads when it is imported

# isort: split
import ray
from ray.cluster_utils import Cluster

from fedrevive.core.process import configure_process
from fedrevive.experiment import run_experiment
from fedrevive.results.store import RunStore
from fedrevive.runtime.lane import Lane
from fedrevive.runtime.private_session import private_session
from fedrevive.runtime.ray_executor import RayExecutor
from fedrevive.settings.errors import ExitCode, UserError
from fedrevive.settings.loading import load
from fedrevive.simulation.records import ArrivalRecord, Record
from fedrevive.tasks import load_task

STORE = 150 << 20


class Placeholder:
    """Keeps CPUs busy, so that actors start elsewhere."""

    def there(self) -> None:
        """Answers once it has started."""


def run(
    folder: Path, words: list[str], lane: Lane, on_record: Callable[[Record], Any] = id
) -> dict[str, Any]:
    """Carry a run out, going on whenever it gives up for reasons of the environment."""
    config = load("digits", words)
    data = ray.put(load_task(config.task, config.seed))
    manifest = {"run_id": "test", "config": config.model_dump(mode="json")}
    given_up, applied = 0, []
    while True:
        with RunStore.open(folder, manifest=manifest) as store:
            try:
                for record in run_experiment(config, store, RayExecutor(lane, config, data)):
                    on_record(record)
                    if isinstance(record, ArrivalRecord):
                        applied.append(record.task.job)
            except UserError as error:
                if error.exit_code != ExitCode.ENVIRONMENT:
                    raise
                given_up += 1
                continue
            return {"hashes": store.manifest["hashes"], "applied": applied, "given_up": given_up}


@contextmanager
def two_nodes() -> Iterator[tuple[Any, Any]]:
    """A head and a second node; yields it and an actor that keeps the head's CPUs busy."""
    with private_session() as temporary:
        head = {"num_cpus": 2, "object_store_memory": STORE, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args={**head, "temp_dir": str(temporary)})
        try:
            ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
            placeholder = ray.remote(Placeholder).options(num_cpus=2).remote()
            ray.get(placeholder.there.remote())
            yield cluster.add_node(num_cpus=2, object_store_memory=STORE), placeholder
        finally:
            ray.shutdown()
            cluster.shutdown()


def on_two_nodes(folder: Path, words: list[str], number: int) -> dict[str, Any]:
    """The client actors' node is killed or frozen in the middle; when it counts as dead, it may go on."""
    found: dict[str, Any] = {}
    with two_nodes() as (node, placeholder):
        lane = Lane(2, gpu=0)
        raylet = node.all_processes["raylet"][0].process.pid
        watch = threading.Thread(target=watch_death, args=(node.node_id, raylet, number, found))

        def strike(record: Record) -> None:
            if isinstance(record, ArrivalRecord) and record.sequence == 10:
                found["before"] = dict(lane.client_pids)
                ray.kill(placeholder)
                os.kill(raylet, number)
                watch.start()

        found |= run(folder, words, lane, strike)
        watch.join()
        found["after"] = dict(lane.client_pids)
    return found


def watch_death(node_id: str, raylet: int, number: int, found: dict[str, Any]) -> None:
    """Measure how long it takes until the node counts as dead."""
    since = time.monotonic()
    while any(node["Alive"] for node in ray.nodes() if node["NodeID"] == node_id):
        time.sleep(0.05)
    found["detected"] = time.monotonic() - since
    if number == signal.SIGSTOP:
        os.kill(raylet, signal.SIGCONT)


def with_faulty_calls(folder: Path, words: list[str]) -> dict[str, Any]:
    """On one node; what fails is in the environment."""
    with private_session() as temporary:
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=STORE,
            _temp_dir=str(temporary),
        )
        try:
            return run(folder, words, Lane(2, gpu=0))
        finally:
            ray.shutdown()


def main() -> None:
    folder, kind, *more = sys.argv[1:]
    configure_process()
    if kind == "nodes":
        number, *words = more
        found = on_two_nodes(Path(folder), words, int(number))
    else:
        found = with_faulty_calls(Path(folder), more)
    print(json.dumps(found))


if __name__ == "__main__":
    main()

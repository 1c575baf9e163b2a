"""What every node of a cluster is: asked by a task on each, so that what is found is what actors will find."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fedrevive.provenance import code_hash, lane, versions
from fedrevive.results.files import environment_errors
from fedrevive.runtime.waiting import cause_of
from fedrevive.settings.errors import UserError

ANSWER_SECONDS = 120.0
"""How long a node may take to start a process and answer. Ours."""
_MARK = ".fedrevive-check-"
_SHARED_MEMORY = "/dev/shm"
T = TypeVar("T")


@dataclass(frozen=True)
class Facts:
    """What a process on a node finds."""

    host: str
    versions: Mapping[str, str]
    lane: Mapping[str, Any]
    code: str
    """Hash of this project's sources."""
    shared_memory: int
    """Bytes of /dev/shm; 0 = there is none."""
    reads: bool
    """Whether it reads what another node has written into the storage folder."""
    writes: bool
    """Whether it can write there."""


@dataclass(frozen=True)
class Node:
    """One node that is alive."""

    number: str
    """Ray's id of it."""
    address: str
    head: bool
    cpus: int
    gpus: int
    store_bytes: int


@dataclass(frozen=True)
class Report:
    """A node, and what was found there."""

    node: Node
    facts: Facts | None
    """None: it did not answer."""
    problem: str = ""
    """Why it did not."""


def nodes() -> list[Node]:
    """The living nodes of the cluster that this process is connected to, the head first."""
    alive = [found for found in ray.nodes() if found["Alive"]]  # type: ignore[no-untyped-call]
    listed = [_node(found["NodeID"], found["NodeManagerAddress"], found["Resources"]) for found in alive]
    return sorted(listed, key=lambda node: (not node.head, node.address, node.number))


def _node(number: str, address: str, resources: Mapping[str, float]) -> Node:
    return Node(
        number=number,
        address=address,
        head="node:__internal_head__" in resources,
        cpus=int(resources.get("CPU", 0)),
        gpus=int(resources.get("GPU", 0)),
        store_bytes=int(resources.get("object_store_memory", 0)),
    )


def survey(storage: Path) -> list[Report]:
    """Ask every node.

    Args:
        storage: folder that all of them should share; it, or what of it exists, is written to and cleaned up.

    Raises:
        UserError: exit code 5, this process cannot write there.
    """
    folder = existing(storage)
    with _marked(folder) as mark:
        answers = on_every_node(nodes(), _facts, str(folder), mark)
        return [
            Report(node, None, answered) if isinstance(answered, str) else Report(node, answered)
            for node, answered in answers.items()
        ]


def on_every_node(asked: list[Node], question: Callable[..., T], *arguments: Any) -> dict[Node, T | str]:
    """The answer of each node to the same question, or why there is none; all are asked at once."""
    remote = ray.remote(question)
    calls = {
        node: remote.options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.number, soft=False),
        ).remote(*arguments)
        for node in asked
    }
    return {node: _answer(call) for node, call in calls.items()}


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    absolute = folder.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.is_dir())


def _answer(call: Any) -> Any:
    try:
        return ray.get(call, timeout=ANSWER_SECONDS)
    except GetTimeoutError:
        return f"no answer within {ANSWER_SECONDS:.0f} s"
    except RayTaskError as error:
        cause = cause_of(error)
        if isinstance(cause, ModuleNotFoundError):
            return f"{cause.name} is not installed there"
        return str(cause) if isinstance(cause, UserError) else f"{type(cause).__name__}: {cause}"
    except RayError as error:
        return type(error).__name__


@contextmanager
def _marked(folder: Path) -> Iterator[str]:
    """A file that other nodes should see; what they write is removed with it."""
    mark = f"{_MARK}{secrets.token_hex(8)}"
    with environment_errors(folder):
        (folder / mark).write_text(mark)
    try:
        yield mark
    finally:
        for file in folder.glob(f"{mark}*"):
            file.unlink(missing_ok=True)


def _facts(folder: str, mark: str) -> Facts:
    reads = writes = False
    with suppress(OSError):
        reads = Path(folder, mark).read_text() == mark
        Path(folder, f"{mark}-{secrets.token_hex(4)}").write_text(mark)
        writes = True
    return Facts(socket.gethostname(), versions(), lane(), code_hash(), _shared_memory(), reads, writes)


def _shared_memory() -> int:
    try:
        found = os.statvfs(_SHARED_MEMORY)
    except OSError:
        return 0
    return found.f_blocks * found.f_frsize

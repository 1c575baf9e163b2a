"""The server's rules: one file per paper, each a builder of a `ServerAlgorithm`.

Importing this package does not import torch; building an algorithm does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fedrevive.algorithms.server_algorithm import (
    Dispatch,
    ServerAlgorithm,
    ServerContext,
    ServerState,
    dispatch_of,
)
from fedrevive.settings import ExperimentConfig

__all__ = [
    "STATE_TYPES",
    "Dispatch",
    "ServerAlgorithm",
    "ServerContext",
    "ServerState",
    "build_algorithm",
    "dispatch_of",
]

BUILDERS = {
    "fedavg": "fedrevive.algorithms.fedavg",
    "fedasync": "fedrevive.algorithms.fedasync",
    "fedbuff": "fedrevive.algorithms.fedbuff",
    "afl_dw": "fedrevive.algorithms.afl_dw",
    "fedrevive": "fedrevive.algorithms.fedrevive",
    "dd_fedrevive": "fedrevive.algorithms.dd_fedrevive",
    "ca2fl": "fedrevive.algorithms.ca2fl",
    "fadas": "fedrevive.algorithms.fadas",
    "asyncfeded": "fedrevive.algorithms.asyncfeded",
    "fedfa": "fedrevive.algorithms.fedfa",
    "port": "fedrevive.algorithms.port",
}
"""`algorithm.name` -> module whose `build(config, context)` makes it."""

WITH_MEMORY = ("fedrevive", "dd_fedrevive", "ca2fl", "fadas", "asyncfeded", "fedfa", "port")
"""Algorithms whose module lists in `MEMORY_TYPES` the records their memory consists of."""

if TYPE_CHECKING:
    STATE_TYPES: tuple[type, ...]
    """Every dataclass a `ServerState` may contain, for whoever writes states to disk."""


def build_algorithm(config: ExperimentConfig, context: ServerContext) -> ServerAlgorithm:
    """The algorithm that `config.algorithm` names.

    Raises:
        ValueError: the algorithm cannot run on the task (say, an image size the generator cannot make).
    """
    algorithm: ServerAlgorithm = import_module(BUILDERS[config.algorithm.name]).build(config, context)
    return algorithm


def __getattr__(name: str) -> Any:
    if name != "STATE_TYPES":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    listed = [import_module(BUILDERS[algorithm]).MEMORY_TYPES for algorithm in WITH_MEMORY]
    return (ServerState, *dict.fromkeys(kind for kinds in listed for kind in kinds))

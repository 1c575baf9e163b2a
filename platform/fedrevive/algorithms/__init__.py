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
}
"""`algorithm.name` -> module whose `build(config, context)` makes it."""

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
    from fedrevive.algorithms.fedrevive import MEMORY_TYPES

    return (ServerState, *MEMORY_TYPES)

"""The server's rules: one file per paper, each a builder of a `ServerAlgorithm`.

Importing this package does not import torch; building an algorithm does.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fedrevive.algorithms.server_algorithm import (
    Dispatch,
    ServerAlgorithm,
    ServerContext,
    ServerState,
    dispatch_of,
)
from fedrevive.core.first_read import PHASES
from fedrevive.settings import ExperimentConfig

__all__ = [
    "STATE_TYPES",
    "Dispatch",
    "ServerAlgorithm",
    "ServerContext",
    "ServerState",
    "build_algorithm",
    "dispatch_of",
    "forked_state",
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


def forked_state(
    config: ExperimentConfig, context: ServerContext, state: ServerState, staleness: Sequence[int]
) -> ServerState:
    """The state that `config` has at a moment, from the state of a run whose settings differ in what neither has read.

    Args:
        config: the experiment that takes over.
        context: made for `config`; no oracle is looked at.
        state: the other run's, whose teacher buffer is at least as large; not changed.
        staleness: of every upload so far, oldest first.
    """
    if config.algorithm.name not in PHASES:
        return state  # all its settings are read from the start, so there is nothing to differ in
    forked: ServerState = import_module(BUILDERS[config.algorithm.name]).forked(
        config, context, state, staleness
    )
    return forked


def __getattr__(name: str) -> Any:
    if name != "STATE_TYPES":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    listed = [import_module(BUILDERS[algorithm]).MEMORY_TYPES for algorithm in WITH_MEMORY]
    return (ServerState, *dict.fromkeys(kind for kinds in listed for kind in kinds))

"""AFL-DW, the down-weighting control of FedRevive (arXiv 2511.00655): the same beta(tau), nothing distilled.

x <- x + server.lr * mean of (1 - beta(tau))*delta. It tells how much of FedRevive's gain is mere
down-weighting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fedrevive.algorithms.aggregation import Contribution, Upload, aggregating
from fedrevive.algorithms.server_algorithm import ServerAlgorithm, ServerContext, ServerState
from fedrevive.core.beta_rule import beta_rule, configured_beta_rule
from fedrevive.core.schedules import warmup_versions
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.algorithm import AflDwSettings


def build(config: ExperimentConfig, context: ServerContext) -> ServerAlgorithm:
    """AFL-DW; updates stay unweighted up to the warm-up version, as in FedRevive."""
    settings = config.algorithm
    assert isinstance(settings, AflDwSettings)
    rule = beta_rule(
        settings.beta,
        concurrency=config.server.concurrency,
        updates_per_version=config.updates_per_version,
    )
    warmup = warmup_versions(settings.warmup_versions, concurrency=config.server.concurrency)

    def contribution(state: ServerState, upload: Upload) -> Contribution:
        due, observed = rule.evaluate(state.memory, upload.info.staleness)
        beta = due if state.version > warmup else 0.0
        return Contribution((1.0 - beta) * upload.delta, replace(upload.info, beta=beta), observed)

    return aggregating(config, context, contribution, tuple)  # its memory: the staleness a beta may follow


def forked(
    config: ExperimentConfig, context: ServerContext, state: ServerState, staleness: Sequence[int]
) -> ServerState:
    """See `algorithms.forked_state`."""
    rule = configured_beta_rule(config)
    assert rule is not None
    return replace(state, memory=rule.remembered(staleness))

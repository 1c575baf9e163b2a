"""FedAsync: Asynchronous Federated Optimization.

Xie, Koyejo, Gupta, arXiv 1903.03934. Every upload x_i is mixed in at once: x <- (1 - a)x + a*x_i, a =
alpha*s(tau).

    alpha  server.lr, in (0, 1]      s(tau)  algorithm.staleness_weight      rho  algorithm.proximal
"""

from __future__ import annotations

from dataclasses import replace

from fedrevive.algorithms.aggregation import Contribution, Upload, aggregating
from fedrevive.algorithms.server_algorithm import ServerAlgorithm, ServerContext, ServerState
from fedrevive.core.schedules import staleness_weight
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.algorithm import FedAsyncSettings


def build(config: ExperimentConfig, context: ServerContext) -> ServerAlgorithm:
    """FedAsync; its delta is relative to the current model, not to the client's base."""
    settings = config.algorithm
    assert isinstance(settings, FedAsyncSettings)
    weight = staleness_weight(settings.staleness_weight)
    count = context.spec.parameter_count

    def contribution(state: ServerState, upload: Upload) -> Contribution:
        share = weight(upload.info.staleness)
        return Contribution(
            delta=(upload.model[:count] - state.model[:count]).mul_(share),
            info=replace(upload.info, staleness_weight=share),
            buffer_share=share,
        )

    return aggregating(config, context, contribution)

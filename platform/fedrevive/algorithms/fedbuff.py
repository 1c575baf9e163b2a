"""FedBuff: Federated Learning with Buffered Asynchronous Aggregation.

Nguyen, Malik, Zhan, Yousefpour, Rabbat, Malek, Huba, AISTATS 2022, arXiv 2106.06639.
x <- x + eta_g * (1/B) * sum over B uploads of s(tau_i)*delta_i. Secure aggregation and server momentum are
left out.

    B  server.updates_per_version    eta_g  server.lr    s(tau)  algorithm.staleness_weight
"""

from __future__ import annotations

from dataclasses import replace

from fedrevive.algorithms.aggregation import Contribution, Upload, aggregating
from fedrevive.algorithms.server_algorithm import ServerAlgorithm, ServerContext, ServerState
from fedrevive.core.schedules import staleness_weight
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.algorithm import FedBuffSettings


def build(config: ExperimentConfig, context: ServerContext) -> ServerAlgorithm:
    """FedBuff with the configured staleness weight; the sum is divided by B, not by the weights."""
    settings = config.algorithm
    assert isinstance(settings, FedBuffSettings)
    weight = staleness_weight(settings.staleness_weight)

    def contribution(state: ServerState, upload: Upload) -> Contribution:
        share = weight(upload.info.staleness)
        return Contribution(share * upload.delta, replace(upload.info, staleness_weight=share))

    return aggregating(config, context, contribution)

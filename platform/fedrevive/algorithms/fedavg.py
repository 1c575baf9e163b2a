"""FedAvg: Communication-Efficient Learning of Deep Networks from Decentralized Data.

McMahan, Moore, Ramage, Hampson, Agüera y Arcas, AISTATS 2017, arXiv 1602.05629. Synchronous: K clients start
together from one version and the next version waits for the slowest. With clients of equal size the mean is
unweighted.

    K      server.concurrency        eta_s  server.lr (the paper: 1)
"""

from __future__ import annotations

from fedrevive.algorithms.aggregation import Contribution, Upload, aggregating
from fedrevive.algorithms.server_algorithm import ServerAlgorithm, ServerContext, ServerState
from fedrevive.settings import ExperimentConfig


def build(config: ExperimentConfig, context: ServerContext) -> ServerAlgorithm:
    """FedAvg with a server learning rate."""
    return aggregating(config, context, contribution)


def contribution(state: ServerState, upload: Upload) -> Contribution:
    """The client delta as it is."""
    return Contribution(upload.delta, upload.info)

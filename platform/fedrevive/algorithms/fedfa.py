"""FedFa: A Fully Asynchronous Training Paradigm for Federated Learning.

Xu, Zhang, Di, Liu, Alharthi, Cao, IJCAI 2024, arXiv 2404.11015. (Another method of this name, about fairness, is
unrelated.) The server keeps the last k client models; after every upload x <- their mean.

    k    window        Q    FedFaMemory.models

Until k models have arrived the server model stays as it is, while its version counts the uploads (ours). The mean
replaces the model, so server.lr is 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedrevive.algorithms.aggregation import Contribution, Upload, aggregating
from fedrevive.algorithms.server_algorithm import ServerAlgorithm, ServerContext, ServerState
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.peers import FedFaSettings


@dataclass(frozen=True)
class FedFaMemory:
    """The sliding window."""

    models: tuple[Tensor, ...]
    """Client models [P + S], newest first, at most k."""


MEMORY_TYPES = (FedFaMemory,)


def build(config: ExperimentConfig, context: ServerContext) -> ServerAlgorithm:
    """FedFa; feature-statistic buffers that are averaged are averaged over the same window."""
    settings = config.algorithm
    assert isinstance(settings, FedFaSettings)
    count = context.spec.parameter_count

    def contribution(state: ServerState, upload: Upload) -> Contribution:
        models = (upload.model, *state.memory.models)[: settings.window]
        memory = FedFaMemory(models)
        if len(models) < settings.window:
            return Contribution(torch.zeros_like(upload.delta), upload.info, memory, buffer_share=0.0)
        mean = torch.stack(models).mean(dim=0)  # [P + S]
        towards_mean = mean[:count] - state.model[:count]
        return Contribution(towards_mean, upload.info, memory, buffers=mean[count:])

    return aggregating(config, context, contribution, lambda: FedFaMemory(()))

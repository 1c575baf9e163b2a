"""What a server gets to see."""

from __future__ import annotations

import pytest
import torch

from fedrevive.assemble import server, server_context, server_data
from fedrevive.settings.loading import load
from fedrevive.tasks import load_task


class Untouchable:
    """Data that nobody may look at."""

    def __getattribute__(self, name: str):
        raise AssertionError(f"the server looked at .{name}")


ORACLES = ["algorithm.proportions=oracle", "algorithm.pool=real", "algorithm.diagnostics=true"]


@pytest.mark.parametrize("overrides", [[], ["algorithm.pool=noise"], ["algorithm.name=fedbuff"]])
def test_a_server_without_oracle_sees_no_data(overrides: list[str]) -> None:
    config = load("digits", overrides)
    assert server(config, Untouchable()).snapshot().version == 0
    assert server_data(config, Untouchable()) is None


@pytest.mark.parametrize("override", ORACLES)
def test_an_oracle_holds_the_true_histograms_and_the_kd_part(override: str) -> None:
    config = load("digits", [override])
    with pytest.raises(ValueError, match="oracle"):
        server(config, None)
    data = load_task(config.task, config.seed)
    oracle = server_context(config, torch.device("cpu"), server_data(config, data)).oracle
    assert oracle is not None
    assert oracle.class_histograms.tolist() == data.class_histograms().tolist()
    assert oracle.kd_inputs.dtype == torch.uint8
    assert (oracle.kd_inputs.numpy() == data.kd.inputs).all()
    assert (oracle.kd_labels.numpy() == data.kd.labels).all()

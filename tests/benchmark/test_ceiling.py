"""The tight loop does the work that clients do."""

import numpy as np
import pytest
import torch

from fedrevive.assemble import client_trainer
from fedrevive.benchmark.ceiling import tight_loop
from fedrevive.benchmark.problems import FEDAVG_CNN, SMALL_CNN, random_data, simulated
from fedrevive.benchmark.sizes import QUICK
from fedrevive.core.local_training import _sample_order
from fedrevive.core.messages import ClientTask, ModelSnapshot
from fedrevive.core.seeds import Purpose, torch_generator

torch.set_num_threads(1)


@pytest.mark.parametrize(("network", "parameters"), [(SMALL_CNN, 55_090), (FEDAVG_CNN, 1_663_370)])
def test_the_same_samples_give_the_same_model(network, parameters):
    config = simulated(network, QUICK.small, 3)
    loop, trainer = tight_loop(config), client_trainer(config, random_data(config))
    assert loop.model.spec.parameter_count == parameters
    task = ClientTask(2, 0, 0, 0, 0, 1)
    update = trainer.train(ModelSnapshot(0, loop.base.numpy().copy()), task)
    random = torch_generator(config.seed, Purpose.LOCAL_TRAINING, 2, 0)
    rows = _sample_order(trainer.data.client_indices[2], config.client, random)
    assert len(rows) == update.samples == 60
    np.testing.assert_allclose(loop.trained(rows).numpy(), update.model, rtol=1e-4, atol=1e-5)


def test_random_data_are_the_same_again_and_fit_the_task():
    config = simulated(SMALL_CNN, QUICK.small, 3)
    first, again = random_data(config), random_data(config)
    np.testing.assert_array_equal(first.train.inputs, again.train.inputs)
    np.testing.assert_array_equal(first.client_indices, again.client_indices)
    assert first.train.inputs.dtype == np.uint8
    assert first.client_indices.shape == (QUICK.small.clients, 50)

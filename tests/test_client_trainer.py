"""The client side as it is assembled: which data, which model, which settings; and that a run learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from fedrevive.algorithms import dispatch_of
from fedrevive.assemble import ClientTrainer, client_trainer, new_model, server
from fedrevive.core.messages import ClientTask, ModelSnapshot
from fedrevive.settings.loading import load
from fedrevive.simulation.executor import InlineExecutor
from fedrevive.simulation.loop import simulate
from fedrevive.simulation.records import EvaluationRecord
from fedrevive.tasks import load_task

SMALL = ["task.clients=12", "server.concurrency=4", "model.width=4", "client.local_steps=3"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def assembled(*overrides: str) -> ClientTrainer:
    config = load("digits", [*SMALL, *overrides])
    return client_trainer(config, load_task(config.task, config.seed))


def by_hand(config, vector, split) -> tuple[float, float]:
    """Accuracy and loss of a flat model on the raw images of a split."""
    model = new_model(config, "cpu")
    model.load(torch.from_numpy(vector))
    pixels = (split.inputs.astype(np.float64) / 255 - 0.3052) / 0.3763
    with torch.no_grad():
        logits = model.module.eval()(torch.from_numpy(pixels).float()).double()
    labels = torch.from_numpy(split.labels)
    return float((logits.argmax(1) == labels).double().mean()), float(
        functional.cross_entropy(logits, labels)
    )


def test_test_numbers_come_from_the_test_part_and_validation_numbers_from_validation() -> None:
    config = load("digits", SMALL)
    data = load_task(config.task, config.seed)
    trainer = client_trainer(config, data)
    start = new_model(config, "cpu").vector.numpy()
    task = ClientTask(0, 0, 0, 0, 0, 1)
    vector = trainer.train(ModelSnapshot(0, start), task).model
    assert not np.array_equal(vector, start)
    trainer.train(
        ModelSnapshot(0, start), task._replace(client_id=1)
    )  # leaves another model in the workspace
    measured = trainer.evaluate(vector)
    test, validation = by_hand(config, vector, data.test), by_hand(config, vector, data.validation)
    assert test != validation
    assert (measured.test_accuracy, measured.validation_accuracy) == pytest.approx((test[0], validation[0]))
    assert (measured.test_loss, measured.validation_loss) == pytest.approx((test[1], validation[1]), rel=1e-4)


def test_only_fedasync_pulls_clients_towards_the_model_they_received() -> None:
    task = ClientTask(2, 0, 0, 0, 0, 1)
    updates = []
    for overrides in (
        ["algorithm.name=fedbuff"],
        ["algorithm.name=fedasync", "algorithm.proximal=0"],
        ["algorithm.name=fedasync", "algorithm.proximal=5"],
    ):
        trainer = assembled("client.optimizer=sgd", "client.lr=0.1", "client.local_steps=8", *overrides)
        start = new_model(trainer.config, "cpu").vector.numpy()
        moved = trainer.train(ModelSnapshot(0, start), task).model - start
        updates.append(moved[: trainer.model.spec.parameter_count])
    free, unpulled, pulled = updates
    np.testing.assert_array_equal(free, unpulled)
    assert np.linalg.norm(pulled) < 0.5 * np.linalg.norm(free)


def test_a_client_takes_the_steps_its_base_model_names() -> None:
    trainer = assembled()
    base = ModelSnapshot(0, new_model(trainer.config, "cpu").vector.numpy(), local_steps={5: 7})
    batch = trainer.config.client.batch_size
    assert trainer.train(base, ClientTask(5, 0, 0, 0, 0, 1)).samples == 7 * batch
    assert trainer.train(base, ClientTask(4, 1, 0, 0, 0, 1)).samples == 3 * batch


def test_a_short_run_learns() -> None:
    config = load("digits", [
        *SMALL, "algorithm.name=fedbuff", "server.lr=0.3", "client.local_steps=8", "client.lr=3e-3",
        "stop.arrivals=150", "evaluation.every_arrivals=75",
    ])  # fmt: skip
    data = load_task(config.task, config.seed)
    executor = InlineExecutor(server(config, data), client_trainer(config, data))
    records = simulate(config, dispatch_of(config.algorithm), executor, snapshot_due=lambda _: False)
    measured = [record.evaluation for record in records if isinstance(record, EvaluationRecord)]
    assert measured[0].test_accuracy < 0.3
    assert measured[-1].test_accuracy > 0.5
    assert measured[-1].validation_accuracy > 0.5

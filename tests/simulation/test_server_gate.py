"""What a run does with bad uploads: the server before and after, the folder of a run that diverges, the accuracy."""

import json
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedrevive.assemble import client_trainer, server
from fedrevive.core.faults import Fault
from fedrevive.core.gate import FIRST_NORMS
from fedrevive.core.process import configure_process
from fedrevive.experiment import run_experiment
from fedrevive.results.reading import read_table
from fedrevive.results.store import RunStore
from fedrevive.settings.errors import ExitCode, UserError
from fedrevive.settings.loading import load
from fedrevive.simulation.executor import InlineExecutor
from fedrevive.simulation.loop import simulate
from fedrevive.simulation.records import EventRecord, FinalRecord, RejectedUpdate, SnapshotRecord
from fedrevive.simulation.timeline import Timeline
from fedrevive.stored_records import from_store, to_store
from fedrevive.tasks import load_task

SMALL = ["task.clients=24", "task.samples_per_client=20", "server.concurrency=6", "client.local_steps=3",
         "client.batch_size=8", "stop.arrivals=40"]  # fmt: skip
QUICK = ["algorithm.name=fedbuff", "server.lr=0.1", "server.concurrency=10", "task.clients=40",
         "task.partition.alpha=1.0", "client.local_steps=10", "client.lr=3e-3", "model.width=8",
         "stop.arrivals=250"]  # fmt: skip
REVIVE = ["algorithm.warmup_versions=4", "algorithm.generate_every_versions=2"]


def parts(config):
    configure_process()
    data = load_task(config.task, config.seed)
    return server(config, data), client_trainer(config, data)


def same(a, b):
    (structure, arrays), (other, others) = a, b
    return structure == other and all(np.array_equal(arrays[name], others[name]) for name in arrays)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_rejected_upload_leaves_the_server_and_its_teachers_as_they_were(norm):
    config = load("digits", [*SMALL, *REVIVE, f"model.norm={norm}", "faults.nan.jobs=1.0"])
    central, trainer = parts(config)
    base = central.snapshot()
    tasks = Timeline(config, "continuous").in_flight
    for task in tasks[:3]:
        sound = trainer.train(base, task._replace(fault=Fault.NONE))
        _, taken = central.apply(base, sound, task.job)
        assert not isinstance(taken, RejectedUpdate)
    before = central.capture()
    assert len(central._state.memory.teachers) == 3
    snapshot, outcome = central.apply(base, trainer.train(base, tasks[3]), 3)
    assert isinstance(outcome, RejectedUpdate)
    after = central.capture()
    assert same((before.structure, before.arrays), (after.structure, after.arrays))
    assert (snapshot.model == central.snapshot().model).all()
    assert after.gate == replace(before.gate, rejected=1)


def test_order_is_checked_across_rejections():
    config = load("digits", [*SMALL, "algorithm.name=fedbuff", "faults.nan.jobs=1.0"])
    central, trainer = parts(config)
    base, (first, second, *_) = central.snapshot(), Timeline(config, "continuous").in_flight
    central.apply(base, trainer.train(base, first), 0)
    with pytest.raises(RuntimeError, match="upload 0 applied after 1"):
        central.apply(base, trainer.train(base, second), 0)


def test_with_the_gate_open_a_diverged_run_stops_by_policy_and_leaves_its_folder_intact(tmp_path):
    config = load("digits", [*SMALL, "algorithm.name=fedbuff", "faults.nan.jobs=0.05", "server.gate.finite=false",
                             "snapshots.every_arrivals=5", "faults.label_flip.jobs=0.2"])  # fmt: skip
    manifest = {"run_id": "test", "config": config.model_dump(mode="json")}
    reached = []
    for _ in range(2):  # a resumed one stops at the same place
        with RunStore.open(tmp_path / "run", manifest=manifest) as store:
            with pytest.raises(
                UserError, match=r"^server: diverged, the model of version \d+ is not"
            ) as raised:
                deque(run_experiment(config, store, InlineExecutor(*parts(config))), maxlen=0)
            assert raised.value.exit_code == ExitCode.POLICY
            reached.append((str(raised.value), store.latest().arrivals))
    assert reached[0] == reached[1]
    assert reached[0][1] >= 5
    assert len(read_table(tmp_path / "run", "arrivals")) == reached[0][1]


def test_a_distilled_delta_that_is_not_finite_is_an_event():
    # lr*weight_decay = 10: every step multiplies the student's weights by -9.
    config = load("digits", [*SMALL, *REVIVE, "algorithm.distill_optimizer=sgd", "algorithm.distill_lr=10",
                             "algorithm.distill_weight_decay=1", "algorithm.distill_steps=60",
                             "algorithm.loss_guard=false", "stop.arrivals=12"])  # fmt: skip
    *records, final = simulate(
        config, "continuous", InlineExecutor(*parts(config)), snapshot_due=lambda _: False
    )
    events = [record for record in records if isinstance(record, EventRecord)]
    assert {event.kind for event in events} == {"distillation"}
    assert isinstance(final, FinalRecord)
    assert final.rejected == 0
    assert np.isfinite(final.model).all()


def test_a_snapshot_keeps_what_the_gate_remembers():
    config = load(
        "digits", [*SMALL, "server.gate.max_norm_factor=4", "algorithm.name=fedbuff", "stop.arrivals=8"]
    )
    records = simulate(config, "continuous", InlineExecutor(*parts(config)), snapshot_due=lambda _: True)
    kept = next(record for record in records if isinstance(record, SnapshotRecord) and record.arrivals == 7)
    stored = to_store(kept, wall_seconds=1.0)
    gate = from_store(replace(stored, state=json.loads(json.dumps(stored.state)))).server.gate
    assert gate == kept.server.gate
    assert (len(gate.norms), len(gate.buffer_norms), gate.rejected) == (7, 7, FIRST_NORMS)
    assert min(gate.buffer_norms) > 0


class _BadBuffers:
    """Trains as `trainer` does; clients 0 to 3 of the 40 upload absurd buffers."""

    def __init__(self, trainer):
        self._trainer = trainer
        self.evaluate = trainer.evaluate

    def train(self, base, task):
        update = self._trainer.train(base, task)
        if task.client_id >= 4:
            return update
        model = update.model.copy()
        model[self._trainer.model.spec.parameter_count :] = 1e14
        return replace(update, model=model)


def accuracy(tmp_path, name, *overrides, quick=QUICK, trainer_of=lambda trainer: trainer):
    config = load("digits", [*quick, "server.gate.max_norm_factor=4", *overrides])
    manifest = {"run_id": name, "config": config.model_dump(mode="json")}
    central, trainer = parts(config)
    with RunStore.open(tmp_path / name, manifest=manifest) as store:
        for record in run_experiment(config, store, InlineExecutor(central, trainer_of(trainer))):
            if isinstance(record, FinalRecord):
                assert np.isfinite(record.model).all()
        return store.manifest["summary"]["final_accuracy"]


def test_ten_per_cent_bad_clients_cost_less_than_five_per_cent_of_the_accuracy(tmp_path):
    torch.set_num_threads(1)
    clean = accuracy(tmp_path, "clean")
    assert clean > 0.6
    for fault in ("nan", "sign_flip", "explosion"):
        assert accuracy(tmp_path, fault, f"faults.{fault}.clients=0.1") >= 0.95 * clean


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_they_cost_fedrevive_less_than_five_per_cent_too(tmp_path):
    quick = [word for word in QUICK if not word.startswith("algorithm.name")]
    clean = accuracy(tmp_path, "clean", quick=quick)
    assert clean > 0.6
    for fault in ("nan", "sign_flip", "explosion"):
        assert accuracy(tmp_path, fault, f"faults.{fault}.clients=0.1", quick=quick) >= 0.95 * clean


def test_bad_buffers_are_rejected_and_cost_as_little(tmp_path):
    clean = accuracy(tmp_path, "clean", "model.norm=batch")
    assert clean > 0.6
    assert len(read_table(tmp_path / "clean", "events")) == FIRST_NORMS  # no honest upload later than those
    bad = accuracy(tmp_path, "buffers", "model.norm=batch", trainer_of=_BadBuffers)
    assert bad >= 0.95 * clean
    reasons = read_table(tmp_path / "buffers", "events").column("reason").to_pylist()
    assert sum("norm of the buffers" in reason for reason in reasons) > 10

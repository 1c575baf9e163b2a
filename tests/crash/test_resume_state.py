"""Nothing that a run needs to go on is missing from its folder: it is closed and opened after every single arrival."""

from __future__ import annotations

from pathlib import Path

from crash_victim import SMALL

from fedrevive.assemble import client_trainer, server
from fedrevive.core.process import configure_process
from fedrevive.experiment import run_experiment
from fedrevive.results.reading import read_table
from fedrevive.results.store import RunStore
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.loading import load
from fedrevive.simulation.executor import InlineExecutor
from fedrevive.tasks import load_task

ARRIVALS = 24
"""Three rounds of synthesis and more, so that each leaves traces in a later one."""
OVERRIDES = [
    *(word for word in SMALL[2:] if "=" in word),
    f"stop.arrivals={ARRIVALS}",
    "algorithm.generate_every_versions=3",
    "snapshots.every_arrivals=null",
]


def session(config: ExperimentConfig, folder: Path, *, one_arrival: bool) -> dict[str, str] | None:
    """Go on with the run in new objects, to the end or for one arrival; its hashes once it is complete."""
    configure_process()
    data = load_task(config.task, config.seed)
    executor = InlineExecutor(server(config, data), client_trainer(config, data))
    with RunStore.open(folder, manifest={"run_id": "0", "config": config.model_dump(mode="json")}) as store:
        for _ in run_experiment(config, store, executor, interrupted=lambda: one_arrival):
            pass
        return store.manifest["hashes"] if store.finished else None


def assert_equal(config: ExperimentConfig, folder: Path) -> None:
    expected = session(config, folder / "whole", one_arrival=False)
    sessions, found = 0, None
    while found is None:
        found = session(config, folder / "pieces", one_arrival=True)
        sessions += 1
        assert sessions <= config.stop.arrivals + 1
    assert sessions >= config.stop.arrivals
    assert found == expected
    rounds = read_table(folder / "whole", "arrivals").column("synthesis_loss").drop_null()
    assert len(rounds) >= 3


def test_saving_and_loading_at_every_arrival_changes_nothing(tmp_path):
    assert_equal(load("digits", OVERRIDES), tmp_path)


def test_also_with_several_updates_per_version(tmp_path):
    several = ["server.updates_per_version=2", "algorithm.generate_every_versions=1"]
    assert_equal(load("digits", [*OVERRIDES, *several]), tmp_path)


def test_also_with_faults_and_a_norm_gate(tmp_path):
    """Uploads that are rejected, lost, late and doubled; the gate's memory and the numbers of events go on."""
    faults = [
        "stop.arrivals=30",
        "server.gate.max_norm_factor=3",
        "faults.timeout=2",
        "faults.nan.jobs=0.1",
        "faults.dropout.jobs=0.2",
        "faults.duplicate.jobs=0.2",
        "faults.explosion.jobs=0.1",
    ]
    assert_equal(load("digits", [*OVERRIDES, *faults]), tmp_path)
    events = read_table(tmp_path / "whole", "events")
    assert {"nan", "dropout", "duplicate", "rejected"} <= set(events.column("kind").to_pylist())
    assert any("the median of the last" in reason for reason in events.column("reason").to_pylist())

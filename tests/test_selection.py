"""What a comparison is judged by: validation accuracy of the first seed, never the test part."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fedrevive import comparison
from fedrevive.comparison import selected, tuning
from fedrevive.core.target import window
from fedrevive.results.comparison_folder import Entry
from fedrevive.results.schemas import EVALUATIONS
from fedrevive.results.tables import table_from_rows
from fedrevive.settings.identity import run_id
from fedrevive.settings.loading import load


def entry(label: str, lr: float, seed: int, follows: str = "", *overrides: str) -> Entry:
    config = load("digits", ["algorithm.name=fedbuff", f"server.lr={lr}", f"seed={seed}", *overrides])
    return Entry(label, config, run_id(config), f"server.lr={lr}", follows)


def evaluations(validation: float, test: float) -> pa.Table:
    rows = [
        {
            "arrivals": 10 * number,
            "version": 10 * number,
            "virtual_time": number,
            "test_accuracy": test,
            "test_loss": 1.0,
            "validation_accuracy": validation,
            "validation_loss": 1.0,
        }
        for number in range(12)
    ]
    return table_from_rows(EVALUATIONS, rows)


@pytest.fixture
def grid() -> list[Entry]:
    competitors = [entry("a", lr, seed) for lr in (0.1, 0.2) for seed in (0, 1)]
    controls = [entry("a:control", lr, seed, "a", "client.lr=0.5") for lr in (0.1, 0.2) for seed in (0, 1)]
    return competitors + controls


def test_validation_decides_even_where_the_test_part_disagrees(grid, monkeypatch):
    measured = {0.1: evaluations(validation=0.7, test=0.2), 0.2: evaluations(validation=0.6, test=0.9)}
    by_folder = {item.folder(Path("x")): measured[item.config.server.lr] for item in grid}
    monkeypatch.setattr(comparison, "read_table", lambda folder, table: by_folder[folder])
    chosen = selected(Path("x"), grid)
    assert [(item.label, item.config.server.lr, item.config.seed) for item in chosen] == [
        ("a", 0.1, 0), ("a", 0.1, 1), ("a:control", 0.1, 0), ("a:control", 0.1, 1)
    ]  # fmt: skip


def test_only_the_first_seed_is_tuned_on_and_controls_never(grid):
    assert [(item.label, item.config.seed) for item in tuning(grid)] == [("a", 0), ("a", 0)]


def test_the_window_spans_equally_many_arrivals_for_cohorts():
    fedavg = load(
        "digits", ["algorithm.name=fedavg", "server.concurrency=20", "evaluation.every_arrivals=10"]
    )
    assert window(fedavg) == 5  # 5 rounds of 20 arrivals, as 10 evaluations every 10 arrivals
    assert window(load("digits", ["algorithm.name=fedbuff"])) == 10
    huge = load("digits", ["algorithm.name=fedavg", "server.concurrency=100", "evaluation.every_arrivals=1"])
    assert window(huge) == 1


def test_controls_and_oracles_do_not_set_the_target():
    def manifest(accuracy: float) -> dict:
        return {"summary": {"final_accuracy": accuracy}}

    weak, strong = entry("a", 0.1, 0), entry("a:control", 0.2, 0, "a")
    oracle_config = load("digits", ["algorithm.name=dd_fedrevive"])
    oracle = Entry("dd", oracle_config, run_id(oracle_config))
    manifests = {weak.run_id: manifest(0.5), strong.run_id: manifest(0.9), oracle.run_id: manifest(0.8)}
    target, automatic = comparison._target([weak, strong, oracle], manifests)
    assert automatic
    assert np.isclose(target, 0.5 * comparison.AUTO_TARGET)

"""The plan in its folder, without Ray: what is asked when, and the table of a search at any moment."""

import os
from pathlib import Path

import pyarrow as pa
import pytest

from fedrevive.assemble import client_trainer, server
from fedrevive.core.process import configure_process
from fedrevive.experiment import run_experiment
from fedrevive.results.store import RunStore
from fedrevive.settings.errors import ExitCode, UserError
from fedrevive.settings.identity import run_id
from fedrevive.simulation.executor import InlineExecutor
from fedrevive.simulation.records import ArrivalRecord, Record
from fedrevive.tasks import load_task
from fedrevive_tuning.definition import read_search
from fedrevive_tuning.folder import SearchFolder
from fedrevive_tuning.plan import Plan, horizon, new_manifest
from fedrevive_tuning.sampling import planned_points
from fedrevive_tuning.table import trials_table, write_trials
from fedrevive_tuning.validation import check_search

FILE = """experiment: digits
overrides:
  algorithm.name: fedbuff
  task.clients: 12
  server.concurrency: 4
  client.local_steps: 1
  stop.arrivals: 6
  evaluation.every_arrivals: 2
  evaluation.target_accuracy: 0.99
search:
  searcher: {searcher}
  trials: 13
  objective: {objective}
  space:
    server.lr: {{loguniform: [0.001, 0.5]}}
    algorithm.staleness_weight.family:
      choice:
        constant: {{}}
        polynomial: {{algorithm.staleness_weight.exponent: {{uniform: [0.1, 1]}}}}
"""


def manifest_of(folder: Path, searcher: str, objective: str = "final_accuracy") -> dict:
    (folder / "s.yaml").write_text(FILE.format(searcher=searcher, objective=objective))
    search = read_search(str(folder / "s.yaml"))
    return new_manifest(
        search,
        columns=check_search(search),
        points=planned_points(search),
        concurrent=2,
        horizon=horizon(search),
        details={},
    )


def finish(plan: Plan, number: int, *, after: int | None = None) -> None:
    """Run a trial to its end, or until `after` arrivals as an early stop does."""
    configure_process()
    record = plan.begun(number)
    for config in plan.configs(record.values):
        manifest = {"run_id": run_id(config), "config": config.model_dump(mode="json"), "seed": config.seed}
        data = load_task(config.task, config.seed)
        executor = InlineExecutor(server(config, data), client_trainer(config, data))
        with RunStore.open(plan.folder.run(run_id(config)), manifest=manifest) as store:
            arrived: list[Record] = []
            stop = lambda arrived=arrived: len(arrived) == after  # noqa: E731
            for item in run_experiment(config, store, executor, interrupted=stop):
                arrived += [item] if isinstance(item, ArrivalRecord) else []
    plan.folder.update(number, "complete" if after is None else "stopped")


def asked(directory: Path, order: list[int]) -> list[dict]:
    """Points of an optuna plan whose trials end in `order`."""
    folder = SearchFolder(directory)
    with folder.claimed(manifest_of(directory.parent, "optuna")):
        plan = Plan(folder)
        for number in order:
            assert plan.point(number) is not None
            finish(plan, number)
        return [plan.point(number) or {} for number in range(13)]


def test_optuna_waits_for_the_results_it_was_promised(tmp_path):
    folder = SearchFolder(tmp_path / "out")
    with folder.claimed(manifest_of(tmp_path, "optuna")):
        plan = Plan(folder)
        assert plan.point(0)
        assert plan.point(1)
        assert plan.point(2) is None
        finish(plan, 1)
        assert plan.point(2) is None  # trial 0 is still out
        finish(plan, 0)
        assert plan.point(2)
        assert plan.point(3)
        assert plan.point(4) is None


def test_optuna_asks_the_same_whatever_ends_first_and_after_a_restart(tmp_path):
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    in_order = asked(folders[0] / "out", list(range(12)))
    assert asked(folders[1] / "out", [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10]) == in_order
    again = Plan(SearchFolder(folders[0] / "out"))
    assert [again.point(number) for number in range(13)] == in_order
    assert len({str(point) for point in in_order}) == 13
    for point in in_order:
        polynomial = point["algorithm.staleness_weight.family"] == "polynomial"
        assert ("algorithm.staleness_weight.exponent" in point) == polynomial


def test_the_table_follows_an_unfinished_search(tmp_path):
    folder = SearchFolder(tmp_path / "out")
    with folder.claimed(manifest_of(tmp_path, "random")):
        plan = Plan(folder)
        assert trials_table(folder.directory).num_rows == 0
        finish(plan, 0)
        finish(plan, 1, after=3)
        plan.begun(2)
        plan.begun(3)
        folder.update(3, "failed", "it broke")
        rows = write_trials(folder.directory).to_pylist()
    assert [row["status"] for row in rows] == ["complete", "stopped", "running", "failed"]
    assert [row["arrivals"] for row in rows] == [6, 3, None, None]
    assert [row["error"] for row in rows] == [None, None, None, "it broke"]
    assert rows[1]["virtual_time"] < rows[0]["virtual_time"]
    assert [row["score"] is None for row in rows] == [False, False, True, True]
    assert rows[0]["censored"] is True
    for row, point in zip(rows, planned_points(plan.search) or (), strict=False):
        assert row["server.lr"] == point["server.lr"]
        assert row["algorithm.staleness_weight.exponent"] == point.get("algorithm.staleness_weight.exponent")
    assert plan.missing() == [2, *range(4, 13)]


def test_a_run_that_never_reaches_its_target_counts_twice(tmp_path):
    folder = SearchFolder(tmp_path / "out")
    with folder.claimed(manifest_of(tmp_path, "random", "time_to_target")):
        plan = Plan(folder)
        finish(plan, 0)
        finish(plan, 1, after=3)
        rows = trials_table(folder.directory).to_pylist()
    whole = rows[0]["virtual_time"]
    assert [row["objective"] for row in rows] == pytest.approx([2 * whole, 2 * whole])


def test_columns_keep_their_types_without_a_single_row(tmp_path):
    folder = SearchFolder(tmp_path / "out")
    with folder.claimed(manifest_of(tmp_path, "random")):
        schema = trials_table(folder.directory).schema
    assert schema.field("server.lr").type == pa.float64()
    assert schema.field("algorithm.staleness_weight.family").type == pa.string()
    assert schema.field("algorithm.staleness_weight.exponent").metadata[b"unit"] == b"value"


def test_trials_lost_to_the_machine_are_tried_again_and_others_are_not(tmp_path):
    folder = SearchFolder(tmp_path / "out")
    manifest = manifest_of(tmp_path, "random")
    with folder.claimed(manifest):
        plan = Plan(folder)
        for number, lost in ((0, True), (1, False)):
            folder.write(plan.begun(number).__class__(number, {}, ("x",), "failed", "gone", lost))
    with folder.claimed(manifest):
        assert Plan(folder).missing() == [0, *range(2, 13)]


def test_one_process_at_a_time(tmp_path):
    folder = SearchFolder(tmp_path / "out")
    manifest = manifest_of(tmp_path, "random")
    with folder.claimed(manifest):
        with pytest.raises(UserError) as caught, folder.claimed(manifest):
            pass
        assert caught.value.exit_code == ExitCode.RUNNING


def test_a_folder_with_anything_else_is_refused(tmp_path):
    manifest = manifest_of(tmp_path, "random")
    with (
        pytest.raises(UserError, match=r"holds 's\.yaml' but no run"),
        SearchFolder(tmp_path).claimed(manifest),
    ):
        pass
    with SearchFolder(tmp_path / "out").claimed(manifest):
        pass
    other = manifest_of(tmp_path, "optuna")
    with (
        pytest.raises(UserError, match="holds something else"),
        SearchFolder(tmp_path / "out").claimed(other),
    ):
        pass


def test_a_folder_killed_at_any_moment_of_its_making_is_usable(tmp_path):
    manifest = manifest_of(tmp_path, "random")
    deaths = 0
    for point in range(100):
        folder = SearchFolder(tmp_path / f"out{point}")
        child = os.fork()
        if not child:
            claim_and_die(folder, manifest, point)
        died = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with folder.claimed(manifest):
            assert Plan(folder).missing() == list(range(13))
        if not died:
            break
        deaths += 1
    assert 6 <= deaths < 99


def claim_and_die(folder: SearchFolder, manifest: dict, point: int) -> None:
    """End this process before its change of a file number `point`, or after all of them."""
    calls = iter(range(1000))
    for name in ("mkdir", "replace", "open"):
        original = getattr(os, name)

        def dying(*words, original=original, **options):
            if next(calls) == point:
                os._exit(9)
            return original(*words, **options)

        setattr(os, name, dying)
    with folder.claimed(manifest):
        os._exit(0)


def test_a_configuration_that_optuna_repeats_has_the_outcome_of_the_first(tmp_path):
    """Going on with a stopped run would change a score that was told, and no resumed search would choose the same."""
    (tmp_path / "s.yaml").write_text(
        FILE.format(searcher="optuna", objective="final_accuracy").partition("  space:")[0]
        + "  space:\n    server.lr: {choice: [0.1, 0.2]}\n"
    )
    search = read_search(str(tmp_path / "s.yaml"))
    manifest = new_manifest(
        search, columns=check_search(search), points=None, concurrent=1, horizon=None, details={}
    )
    folder = SearchFolder(tmp_path / "out")
    with folder.claimed(manifest):
        plan = Plan(folder)
        for number in range(6):
            assert plan.point(number) is not None
            if not plan.begun(number).done:
                finish(plan, number, after=3)
        rows = trials_table(folder.directory).to_pylist()
    assert [row["status"] for row in rows] == ["stopped"] * 6
    assert len({row["run_id"] for row in rows}) == 2
    assert {row["arrivals"] for row in rows} == {3}
    again = Plan(folder)
    assert [again.point(number) for number in range(6)] == [plan.point(number) for number in range(6)]


def test_a_damaged_run_is_a_row_with_its_error(tmp_path):
    folder = SearchFolder(tmp_path / "out")
    with folder.claimed(manifest_of(tmp_path, "random")):
        plan = Plan(folder)
        finish(plan, 0)
        finish(plan, 1)
    part = next((folder.run(plan.begun(0).run_ids[0]) / "evaluations").glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-9])
    rows = trials_table(folder.directory).to_pylist()
    assert [row["status"] for row in rows] == ["failed", "complete"]
    assert part.name in rows[0]["error"]
    assert rows[1]["score"] is not None


def test_times_to_a_target_need_one_horizon(tmp_path):
    text = FILE.format(searcher="random", objective="time_to_target")
    text = (
        text.replace("  server.concurrency: 4\n", "").replace("clients: 12", "clients: 24")
        + "    server.concurrency: {choice: [1, 4]}\n"
    )
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(
        UserError, match=r"search.objective: time_to_target, but whole runs end at .*line 12 of"
    ):
        horizon(read_search(str(tmp_path / "s.yaml")))
    (tmp_path / "s.yaml").write_text(
        text.replace("stop.arrivals: 6", "stop: {arrivals: null, virtual_time: 3}")
    )
    assert horizon(read_search(str(tmp_path / "s.yaml"))) == 3


def test_a_search_is_the_same_by_any_path_and_in_any_order_of_overrides(tmp_path, monkeypatch):
    text = FILE.format(searcher="random", objective="auc")
    (tmp_path / "e.yaml").write_text("name: mine\ntask: {name: digits}\nstop: {arrivals: 5}\n")
    text = text.replace("experiment: digits", "experiment: ./e.yaml")
    (tmp_path / "s.yaml").write_text(text)
    lines = text.splitlines()
    lines[2], lines[3] = lines[3], lines[2]
    (tmp_path / "t.yaml").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    names = (str(tmp_path / "s.yaml"), "./s.yaml", "./t.yaml")
    assert len({read_search(name).identity() for name in names}) == 1


def test_a_setting_in_overrides_and_space_is_refused(tmp_path):
    (tmp_path / "s.yaml").write_text(
        FILE.format(searcher="random", objective="auc").replace(
            "overrides:\n", "overrides:\n  server.lr: 0.1\n"
        )
    )
    with pytest.raises(UserError, match=r"search.space.server.lr: also in overrides"):
        read_search(str(tmp_path / "s.yaml"))

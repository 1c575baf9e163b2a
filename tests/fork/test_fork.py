"""A run forked from a shared prefix is the run from zero: same tables, same model, same folder to go on from."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import ray

from fedrevive.cli.execution import manifest
from fedrevive.fork import CAPACITY, fork_run, make_prefix, prefix_config, saved_arrivals, shared_arrivals
from fedrevive.results import RunStore, read_table
from fedrevive.results.reading import read_snapshot
from fedrevive.results.schemas import TABLES
from fedrevive.runtime.lane import Lane
from fedrevive.runtime.ray_executor import RayExecutor
from fedrevive.runtime.session import ray_session
from fedrevive.settings.errors import UserError
from fedrevive.simulation.records import ArrivalRecord, SnapshotRecord
from fedrevive.tasks import load_task

MEASURED = dict.fromkeys(("wall_seconds", "client_cpu_seconds", "server_cpu_seconds", "utilisation"), 0)
"""What the real clock says of a run."""

SLOW_SERVER = ["server.charge_time.flops_per_unit=2e8"]
SEARCHES = {
    "teachers": ([], [["algorithm.teacher_capacity=1"], ["algorithm.teacher_capacity=8"]]),
    "generation": (
        [],
        [
            ["algorithm.generate_every_versions=1"],
            ["algorithm.generate_every_versions=7", "algorithm.teacher_capacity=2"],
        ],
    ),
    "families": (
        [],
        [
            ["algorithm.beta.family=sigmoid"],
            ["algorithm.beta.family=running_quantile", "algorithm.beta.window=9"],
            ["algorithm.beta.family=constant", "algorithm.beta.value=0.75"],
        ],
    ),
    "adaptive-base": (["algorithm.beta.family=variance_driven"], [["algorithm.beta.family=linear"]]),
    "pools": (
        [],
        [
            ["algorithm.pool=noise"],
            ["algorithm.pool=real"],
            ["algorithm.generator_width=8", "algorithm.latent_size=4"],
        ],
    ),
    "noise-base": (["algorithm.pool=noise"], [["algorithm.pool=generator", "algorithm.reptile.kind=convex"]]),
    "distillation": (
        [],
        [["algorithm.distill_lr=0.01"], ["algorithm.distill_steps=3", "algorithm.distill_optimizer=sgd"]],
    ),
    "two-updates": (["server.updates_per_version=2", "stop.arrivals=46"], [["algorithm.teacher_capacity=3"]]),
    "averaged-buffers": (["model.norm=batch"], [["algorithm.diagnostics=true"]]),
    "charged": (
        SLOW_SERVER,
        [["algorithm.distill_steps=1"], ["algorithm.distill_steps=40"], ["algorithm.teacher_capacity=1"]],
    ),
    "virtual-time": (
        ["stop.arrivals=null", "stop.virtual_time=0.9"],
        [["algorithm.generate_every_versions=2"]],
    ),
    "teacher-mean": (
        ["algorithm.reviver.kind=teacher_mean"],
        [["algorithm.reviver.pull=0.9", "algorithm.teacher_capacity=2"]],
    ),
    "server-ema": (["algorithm.reviver.kind=server_ema"], [["algorithm.reviver.pull=0.9"]]),
    "dd_fedrevive": (
        ["algorithm.name=dd_fedrevive", "algorithm.warmup_versions=14"],
        [["algorithm.teacher_capacity=2", "algorithm.beta.family=linear"], ["algorithm.proportions=uniform"]],
    ),
    "afl_dw": (
        ["algorithm.name=afl_dw", "algorithm.warmup_versions=14"],
        [["algorithm.beta.family=running_quantile"]],
    ),
}


def paths_of(overrides: list[list[str]]) -> list[str]:
    return [override.partition("=")[0] for each in overrides for override in each]


@pytest.mark.parametrize("search", SEARCHES)
def test_a_forked_run_equals_the_run_from_zero(search, runs, tmp_path) -> None:
    common, variants = SEARCHES[search]
    base = runs.trial(*common)
    arrivals = shared_arrivals(base, paths_of(variants))
    assert arrivals > 0
    capacity = 8 if CAPACITY in paths_of(variants) else None
    prefix = runs.prefix(base, tmp_path / "prefix", arrivals, capacity)
    for number, overrides in enumerate(variants):
        config = runs.trial(*common, *overrides)
        zero = runs.finish(config, RunStore.open(tmp_path / f"zero{number}", manifest=manifest(config)))
        store = fork_run(prefix, tmp_path / f"fork{number}", manifest(config))
        assert store.latest().arrivals == arrivals
        assert runs.finish(config, store) == zero
        assert read_table(tmp_path / f"fork{number}", "timings").num_rows > arrivals
        summaries = [
            json.loads((tmp_path / f"{kind}{number}" / "manifest.json").read_text())["summary"]
            for kind in ("zero", "fork")
        ]
        assert summaries[0] | MEASURED == summaries[1] | MEASURED


def test_a_fork_holds_what_the_run_from_zero_holds_at_that_moment(runs, tmp_path) -> None:
    longer = (
        "stop.arrivals=60"  # all uploads in flight are accepted: the run from zero holds each one's base too
    )
    config = runs.trial(longer, "algorithm.teacher_capacity=2", "algorithm.beta.family=running_quantile")
    prefix = runs.prefix(runs.trial(longer), tmp_path / "prefix", 12, capacity=8)
    seen = iter(range(1, 100))
    zero = RunStore.open(tmp_path / "zero", manifest=manifest(config))
    assert runs.finish(config, zero, interrupted=lambda: next(seen) >= 12) is None
    fork_run(prefix, tmp_path / "fork", manifest(config)).close()
    expected, found = read_snapshot(tmp_path / "zero"), read_snapshot(tmp_path / "fork")
    assert found.state | {"wall_seconds": 0} == expected.state | {"wall_seconds": 0}
    assert {name: (a.dtype, a.tobytes()) for name, a in found.tensors.items()} == {
        name: (a.dtype, a.tobytes()) for name, a in expected.tensors.items()
    }
    assert {key: a.tobytes() for key, a in found.base_models.items()} == {
        key: a.tobytes() for key, a in expected.base_models.items()
    }
    for table in set(TABLES) - {"timings"}:
        assert read_table(tmp_path / "fork", table).equals(read_table(tmp_path / "zero", table))
    manifests = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("zero", "fork")]
    assert manifests[0]["run_id"] == manifests[1]["run_id"]
    assert manifests[0]["config"] == manifests[1]["config"]


def test_rows_of_the_prefix_say_nothing_of_what_is_searched(runs, tmp_path) -> None:
    rows = read_table(runs.prefix(runs.trial(), tmp_path / "prefix", 12), "arrivals").to_pylist()
    assert {row["teachers"] for row in rows} == {None}
    assert {row["proportion_entropy"] for row in rows} == {None}
    assert {(row["pool_size"], row["beta"]) for row in rows} == {(0, 0.0)}
    assert max(row["server_flops"] for row in rows) > 0


@pytest.mark.ray
def test_a_prefix_and_its_forks_on_ray_equal_inline_runs_from_zero(runs, tmp_path) -> None:
    base, config = runs.trial(), runs.trial("algorithm.teacher_capacity=2", "algorithm.pool=real")
    zero = runs.finish(config, RunStore.open(tmp_path / "zero", manifest=manifest(config)))
    with ray_session(cpus=2, gpus=0, object_store_bytes=0):
        lane = Lane(2, gpu=0)

        def on_ray(experiment):
            return RayExecutor(lane, experiment, ray.put(load_task(experiment.task, experiment.seed)))

        shared = prefix_config(base, 12, 8)
        prefix = runs.prefix(base, tmp_path / "prefix", 12, 8, on_ray(shared))
        fork = fork_run(prefix, tmp_path / "ray", manifest(config))
        assert runs.finish(config, fork, on_ray(config)) == zero
    assert runs.finish(config, fork_run(prefix, tmp_path / "inline", manifest(config))) == zero


def test_an_interrupted_fork_is_resumed_by_the_command_line(runs, tmp_path) -> None:
    config = runs.trial("algorithm.distill_lr=0.01")
    zero = runs.finish(config, RunStore.open(tmp_path / "zero", manifest=manifest(config)))
    prefix = runs.prefix(runs.trial(), tmp_path / "prefix", 17)
    seen = iter(range(100))
    store = fork_run(prefix, tmp_path / "fork", manifest(config))
    assert runs.finish(config, store, interrupted=lambda: next(seen) > 6) is None
    with fork_run(prefix, tmp_path / "fork", manifest(config)) as store:
        assert store.latest().arrivals > 17  # not forked again
    command = [
        sys.executable,
        "-m",
        "fedrevive",
        "resume",
        str(tmp_path / "fork"),
        "--executor",
        "inline",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["hashes"] == zero
    with fork_run(prefix, tmp_path / "fork", manifest(config)) as store:
        assert store.finished


def test_an_interrupted_prefix_goes_on_and_a_complete_one_is_left_alone(runs, tmp_path) -> None:
    config = prefix_config(runs.trial(), 12, 8)
    executors = iter([runs.inline(config), runs.inline(config)])
    seen = iter(range(100))
    trained = []
    for interrupted in (lambda: next(seen) >= 4, lambda: False):
        with RunStore.open(tmp_path / "prefix", manifest=manifest(config)) as store:
            records = list(make_prefix(config, store, next(executors), interrupted=interrupted))
        assert isinstance(records[-1], SnapshotRecord)
        trained.append(sum(isinstance(record, ArrivalRecord) for record in records))
    assert 0 < trained[0] < 12
    assert sum(trained) == 12
    with RunStore.open(tmp_path / "prefix", manifest=manifest(config)) as store:
        assert list(make_prefix(config, store, runs.inline(config))) == []
    trial = runs.trial("algorithm.labels=uniform")
    zero = runs.finish(trial, RunStore.open(tmp_path / "zero", manifest=manifest(trial)))
    assert runs.finish(trial, fork_run(tmp_path / "prefix", tmp_path / "fork", manifest(trial))) == zero


def test_a_prefix_that_was_run_to_its_end_is_no_prefix(runs, tmp_path) -> None:
    config = prefix_config(runs.trial(), 12)
    runs.finish(config, RunStore.open(tmp_path / "prefix", manifest=manifest(config)))
    with (
        RunStore.open(tmp_path / "prefix", manifest=manifest(config)) as store,
        pytest.raises(UserError, match="holds a finished run, no prefix"),
    ):
        list(make_prefix(config, store, runs.inline(config)))
    with pytest.raises(UserError, match="not a complete prefix"):
        fork_run(tmp_path / "prefix", tmp_path / "fork", manifest(runs.trial()))


REFUSED = {
    "server.lr=0.2": "server.lr: 0.2, but",
    "algorithm.proportions=uniform": "algorithm.proportions: uniform, but",
    "algorithm.teacher_capacity=5": "algorithm.teacher_capacity: 5 is more than the 4",
    "seed=1": "seed: 1, but",
    "stop.arrivals=11": "stop.arrivals: 11 is less than the 12",
    "stop.virtual_time=0.01": "stop.virtual_time: 0.01 is less than",
    "stop.target_accuracy=0.9": "stop.target_accuracy: 0.9; such a run may end",
    "evaluation.every_arrivals=5": "evaluation.every_arrivals: 5, but",
    "compute.device=cpu": "compute.device: cpu, but",
}


def test_a_run_that_shares_less_is_refused_and_nothing_is_created(runs, tmp_path) -> None:
    prefix = runs.prefix(runs.trial(), tmp_path / "prefix", 12)
    for override, message in REFUSED.items():
        with pytest.raises(UserError, match=message):
            fork_run(prefix, tmp_path / "fork", manifest(runs.trial(override)))
    other = manifest(runs.trial()) | {"lane": {"machine": "another"}}
    with pytest.raises(UserError, match="made with other lane"):
        fork_run(prefix, tmp_path / "fork", other)
    assert not (tmp_path / "fork").exists()
    with RunStore.attach(prefix):  # a reader needs no lock
        same = runs.trial("name=other", "compute.workers=2", "snapshots.every_seconds=3")
        fork_run(prefix, tmp_path / "fork", manifest(same)).close()


def test_shared_arrivals_end_where_a_run_may_end(runs) -> None:
    late = ["algorithm.distill_lr"]
    assert shared_arrivals(runs.trial(), late) == 17
    assert shared_arrivals(runs.trial("stop.arrivals=17"), late) == 0
    assert shared_arrivals(runs.trial("stop.target_accuracy=0.9"), late) == 0
    assert shared_arrivals(runs.trial("stop.virtual_time=0.01"), late) == 0
    assert shared_arrivals(runs.trial("stop.arrivals=null", "stop.virtual_time=5"), late) == 17
    assert shared_arrivals(runs.trial(), ["name"]) == 0
    assert shared_arrivals(runs.trial(), [*late, "client.lr"]) == 0
    assert [saved_arrivals(17, runs) for runs in (0, 1, 12)] == [0, 0, 187]

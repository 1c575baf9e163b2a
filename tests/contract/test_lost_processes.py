"""Actors that die change no bit of the results, and leave nothing behind."""

import gc
import os
import signal
import threading
import weakref
from contextlib import contextmanager

import pytest
from contract_runs import experiment, hashes, inline_executor, on_ray

from fedrevive.experiment import run_experiment
from fedrevive.results.store import RunStore
from fedrevive.settings.errors import ExitCode, UserError
from fedrevive.simulation.records import ArrivalRecord

pytestmark = pytest.mark.ray


def on_ray_while(lane, config, folder, on_record):
    """Run on Ray, looking at every record and at the first executor; hashes, and the jobs applied, in order."""
    manifest = {"run_id": "test", "config": config.model_dump(mode="json")}
    with RunStore.open(folder, manifest=manifest) as store:
        records, executor = [], on_ray(lane, config)
        first, running = weakref.ref(executor), run_experiment(config, store, executor)
        del executor
        for record in running:
            on_record(record, first)
            records.append(record)
        applied = [record.task.job for record in records if isinstance(record, ArrivalRecord)]
        return store.manifest["hashes"], applied


def test_killed_workers_change_nothing(cluster, tmp_path):
    config = experiment("fedrevive", "client.local_steps=20")
    expected = hashes(config, inline_executor(config), tmp_path / "whole")
    lane, killed = cluster[2], set()

    def kill(record, _):
        victim = lane.client_pids.get(len(killed) % 2)
        due = isinstance(record, ArrivalRecord) and record.sequence in (3, 4, 20)
        if due and victim is not None and victim not in killed:
            killed.add(victim)
            os.kill(victim, signal.SIGKILL)

    found, applied = on_ray_while(lane, config, tmp_path / "killed", kill)
    assert found == expected
    assert len(applied) == len(set(applied)) == 50
    assert len(killed) >= 2


@pytest.mark.parametrize("every", ["null", "8"])
def test_killed_servers_change_nothing(every, cluster, tmp_path):
    config = experiment("faults-charged-batch-norm", f"snapshots.every_arrivals={every}")
    expected = hashes(config, inline_executor(config), tmp_path / "whole")
    lane, killed = cluster[2], set()

    def kill(record, first_executor):
        if isinstance(record, ArrivalRecord) and record.sequence == 15:
            gc.collect()
            assert first_executor() is None  # the models that it kept are free
        if isinstance(record, ArrivalRecord) and record.sequence in (3, 20):
            killed.add(lane.server_pid)
            os.kill(lane.server_pid, signal.SIGKILL)

    found, applied = on_ray_while(lane, config, tmp_path / "killed", kill)
    assert found == expected
    assert len(applied) == len(set(applied))
    assert len(killed - {lane.server_pid}) == 2


@contextmanager
def killing(pids):
    """Kill every process that `pids` names as soon as it does; counts them."""
    over, dead = threading.Event(), set()

    def kill():
        while not over.wait(0.05):
            for pid in set(pids()) - dead:
                dead.add(pid)
                os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield dead
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "message"), [("client", "lost its worker 3 times"), ("server", "the server was lost 3 times")]
)
def test_a_run_that_always_loses_an_actor_gives_up_and_can_be_resumed(kind, message, cluster, tmp_path):
    config = experiment("fedbuff", "client.local_steps=400", "stop.arrivals=8")
    lane = cluster[1]
    with killing(lambda: lane.pids()[kind]) as dead, pytest.raises(UserError, match=message) as raised:
        hashes(config, on_ray(lane, config), tmp_path / "run")
    assert raised.value.exit_code == ExitCode.ENVIRONMENT
    assert len(dead) in (3, 4)  # the first client actor may die of the evaluation before the job
    expected = hashes(config, inline_executor(config), tmp_path / "inline")
    assert hashes(config, on_ray(lane, config), tmp_path / "run") == expected


def test_actors_that_died_between_experiments_are_replaced(cluster, tmp_path):
    config = experiment("fedbuff")
    lane = cluster[2]
    expected = hashes(config, inline_executor(config), tmp_path / "inline")
    assert hashes(config, on_ray(lane, config), tmp_path / "first") == expected
    for pid in [*lane.pids()["client"], *lane.pids()["server"]]:
        os.kill(pid, signal.SIGKILL)
    assert hashes(config, on_ray(lane, config), tmp_path / "second") == expected

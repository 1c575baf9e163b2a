"""Clients that behave as the devices of a table."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrevive.settings.loading import load
from fedrevive.simulation.delays import NANOSECONDS
from fedrevive.simulation.planning import schedule
from fedrevive.simulation.timeline import Arrival, Incident, Opening, Timeline
from fedrevive.simulation.trace_delays import TraceDurations, devices_of_clients
from fedrevive.simulation.trace_rows import COLUMNS

HEADER = ",".join(COLUMNS) + "\n"
"""Ten steps are a job; 1 kbit/s moves the megabyte in 8000 seconds."""
SCARCE = HEADER + "".join(
    f"{device},{0.1 * (device + 1)},,,0.05,{start},{start + 3},20\n{device},{0.3},,,,{start + 7},{start + 8},20\n"
    for device, start in enumerate([0, 1, 4, 9, 11, 11])
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("traces")


def config(folder, text, *more, clients=12, concurrency=4):
    path = folder / f"{zlib.crc32(text.encode())}.csv"
    path.write_text(text)
    return load(None, [
        "algorithm.name=fedbuff", "client.local_steps=10", "stop.arrivals=40", f"task.clients={clients}",
        f"server.concurrency={concurrency}", "delays.kind=trace", f"delays.path={path}",
        "delays.model_megabytes=1", *more,
    ])  # fmt: skip


def test_phases_by_hand(folder):
    """1 MB = 8000 kbit: download 0.5 + 8, ten steps of 0.2, upload 0.5 + 16 seconds; half of it in units of 2 s."""
    experiment = config(folder, HEADER + "5,0.2,1000,500,0.5,,,\n", "delays.seconds_per_unit=2")
    durations = TraceDurations(experiment).of(range(3))
    np.testing.assert_array_equal(durations.trained, np.full((3, 12), 5.25 * NANOSECONDS))
    np.testing.assert_array_equal(durations.arrives, np.full((3, 12), 13.5 * NANOSECONDS))


def test_a_device_without_bandwidth_transfers_at_once(folder):
    durations = TraceDurations(config(folder, "device,step_seconds\n1,0.2\n")).of(range(1))
    assert (durations.arrives == durations.trained).all()


def test_jobs_take_the_observations_in_order_from_a_random_place(folder):
    text = "device,step_seconds\n" + "".join(f"0,{value}\n" for value in (1, 2, 3, 4))
    experiment = config(folder, text, clients=400)
    trained = TraceDurations(experiment).of(range(9)).trained // (10 * NANOSECONDS)
    assert (np.diff(trained, axis=0) % 4 == 1).all()
    counts = np.bincount(trained[0], minlength=5)[1:]
    assert counts.min() > 60
    np.testing.assert_array_equal(
        TraceDurations(experiment).of(range(4, 7)).trained, trained[4:7] * 10 * NANOSECONDS
    )


def test_devices_serve_equally_many_clients():
    counts = np.bincount(devices_of_clients(3, 25, 10))
    assert sorted(counts.tolist()) == [2] * 5 + [3] * 5
    assert len(set(devices_of_clients(3, 6, 10).tolist())) == 6
    assert (devices_of_clients(3, 25, 10) != devices_of_clients(4, 25, 10)).any()


def test_the_network_itself_travels_by_default(folder):
    experiment = config(folder, HEADER + "1,0,8,,,,,\n", "delays.model_megabytes=null", "model.width=4")
    parameters = 4 * 9 + 4 + 8 * 4 * 9 + 8 + 8 * 8 * 9 + 8 + 10 * 8 * 4 + 10
    buffers = 2 * (4 + 8 + 8)
    trained = TraceDurations(experiment).of(range(1)).trained
    assert trained[0, 0] / NANOSECONDS == pytest.approx(4e-6 * (parameters + buffers) * 1000, abs=1e-9)


@pytest.mark.parametrize("algorithm", ["fedbuff", "fedavg"])
def test_equal_times_are_the_constant_model_bit_by_bit(folder, algorithm):
    """The same participation stream, the same order: only where durations come from differs."""
    traced = config(folder, "device,step_seconds\n1,0.2\n2,0.2\n", f"algorithm.name={algorithm}")
    constant = load(None, [
        f"algorithm.name={algorithm}", "stop.arrivals=40", "task.clients=12", "server.concurrency=4",
        "delays.kind=constant", "delays.mean=2.0",
    ])  # fmt: skip
    dispatch = "cohort" if algorithm == "fedavg" else "continuous"
    one, other = Timeline(traced, dispatch), Timeline(constant, dispatch)
    assert [one.advance() for _ in range(200)] == [other.advance() for _ in range(200)]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    concurrency=st.integers(1, 7),
    spare=st.integers(0, 6),
    dispatch=st.sampled_from(["continuous", "cohort"]),
    faults=st.sampled_from([[], ["faults.timeout=2.5"], ["faults.timeout=4", "faults.dropout.jobs=0.3"]]),
    charge=st.booleans(),
)
def test_invariants(folder, seed, concurrency, spare, dispatch, faults, charge):
    """Only idle, available clients are drawn, as many as there are; nothing is lost; it plays the same twice."""
    clients = concurrency + spare
    charged = ["algorithm.name=fedrevive", "algorithm.teacher_capacity=1", "algorithm.freeze_versions=0",
               "algorithm.warmup_versions=0", "server.charge_time.flops_per_unit=1e9"]  # fmt: skip
    experiment = config(
        folder, SCARCE, f"seed={seed}", *faults, *(charged if charge else []),
        clients=clients, concurrency=concurrency,
    )  # fmt: skip
    timeline, twin = Timeline(experiment, dispatch), Timeline(experiment, dispatch)
    trace = TraceDurations(experiment)
    available, work = trace.availability(), trace.of(range(200)).trained
    busy_until, jobs, clock, latest = [0] * clients, set(), 0, 0

    def present(client):
        return available.opens(client, clock) == clock

    def check(tasks):
        for task in tasks:
            assert task.dispatched_at == clock
            assert present(task.client_id)
            assert task.job not in jobs
            jobs.add(task.job)
            if not faults:  # a client whose job is given up is idle at another time
                assert busy_until[task.client_id] <= clock
                needed = int(work[task.nth, task.client_id])
                busy_until[task.client_id] = clock + available.lasts(task.client_id, clock, needed)

    check(timeline.in_flight)
    for _ in range(80):
        under_way = len(timeline.in_flight)
        due, event = timeline.next_event_at(), timeline.advance()
        assert event == twin.advance()
        assert due == timeline.now >= clock
        clock = due
        check(event.dispatched)
        if isinstance(event, Arrival):
            assert event.task.arrives_at == clock or (charge and event.task.arrives_at < clock)
            assert event.task.arrives_at >= latest
            latest = event.task.arrives_at
        assert len(timeline.in_flight) <= concurrency
        if isinstance(event, Opening):
            assert event.dispatched
            assert under_way < (concurrency if dispatch == "continuous" else 1)
        elif dispatch == "cohort" and event.dispatched:
            assert under_way == 1
        if dispatch == "continuous" and not faults and len(timeline.in_flight) < concurrency:
            assert not any(present(c) for c in range(clients) if busy_until[c] <= clock)
    assert faults or timeline.arrivals > 0


def test_slots_wait_and_fill_when_somebody_comes_back(folder):
    """Two devices, each available a tenth of the time, one after the other; both slots are full only by chance."""
    text = HEADER + "0,0.01,,,,0,1,10\n1,0.01,,,,5,6,10\n"
    timeline = Timeline(config(folder, text, clients=2, concurrency=2), "continuous")
    assert [task.dispatched_at for task in timeline.in_flight] == [0]
    opened = []
    for _ in range(60):
        event = timeline.advance()
        if isinstance(event, Opening):
            opened.append(timeline.now / NANOSECONDS)
    assert opened[:4] == [5, 10, 15, 20]


def test_a_job_rests_with_its_client(folder):
    """Window [0, 1) of 10 seconds: a job of 2.5 seconds from 0 on ends in the third window."""
    timeline = Timeline(config(folder, HEADER + "0,0.25,,,,0,1,10\n", clients=1, concurrency=1), "continuous")
    assert timeline.advance().task.arrives_at == 20.5 * NANOSECONDS
    limited = config(folder, HEADER + "0,0.25,,,,0,1,10\n", "faults.timeout=15", clients=1, concurrency=1)
    event = Timeline(limited, "continuous").advance()
    assert isinstance(event, Incident)
    assert event.task.fault.kind == "late"


def test_a_plan_knows_the_openings(folder):
    for algorithm in ("fedbuff", "fedavg"):
        planned = schedule(config(folder, SCARCE, f"algorithm.name={algorithm}"))
        assert len(planned.client) == 40
        assert (np.diff(planned.accepted_at) >= 0).all()
        assert planned.version[-1] >= 10


def test_a_client_that_finishes_as_its_window_ends_is_no_opening(folder):
    text = HEADER + "0,0.09,,,0.1,0,1,10\n1,0.01,,,,5,6,10\n"
    timeline = Timeline(config(folder, text, clients=2, concurrency=2), "continuous")
    event = timeline.advance()
    assert isinstance(event, Opening)
    assert timeline.now == 5 * NANOSECONDS
    assert len(event.dispatched) == 1

"""Who is dispatched when, from which server state, arriving when: a pure function of configuration and seed.

Time is integer virtual nanoseconds. The order of events is (time, kind, client, job), a total order that does not
depend on how events were inserted; a client that finishes training at the very moment of an event is idle first, and
uploads come before incidents: a job given up because its upload is lost, a second copy of an upload that is ignored.
The server takes an upload when it arrives. With `server.charge_time` the server works on one upload after the other, in
order of arrival, and takes each when its planned step is done: at max(arrival, last step) + cost.
Whether the server then accepts the upload or rejects it changes nothing here: `arrivals` counts both, names the server
states and counts towards stop.arrivals, and costs are those planned for an upload that is accepted.
No event depends on a trained model, so any number of workers may compute jobs ahead while the order stays fixed, and a
resumed run rebuilds its timeline by playing it again instead of reading it from a file.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from heapq import heappop, heappush

from fedrevive.algorithms.server_algorithm import Dispatch
from fedrevive.core.faults import LOST, Fault
from fedrevive.core.messages import ClientTask
from fedrevive.core.seeds import Purpose, philox
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.delays import DelaySettings
from fedrevive.settings.errors import ExitCode, UserError
from fedrevive.simulation.delays import NANOSECONDS, sample_durations
from fedrevive.simulation.faults import FaultTable
from fedrevive.simulation.server_work import server_cost

_BLOCK = 8192
_LOST_IN_A_ROW = 10_000
"""Jobs dispatched and given up without any upload meanwhile, after which nobody is expected to finish. Ours."""
_GIVEN_UP, _SECOND_COPY = 0, 1


@dataclass(frozen=True)
class Arrival:
    """One upload that the server takes, and the dispatches that fill the freed slots."""

    sequence: int
    """0, 1, 2, ... in the order in which the server takes uploads."""
    task: ClientTask
    dispatched: tuple[ClientTask, ...]


@dataclass(frozen=True)
class Incident:
    """A job the server gives up, with the dispatches that fill the freed slots; or a second copy, which frees none."""

    task: ClientTask
    dispatched: tuple[ClientTask, ...]


class Timeline:
    """The event heaps, played forward one event at a time.

    Constant concurrency K: `continuous` refills a slot when its upload is taken or its job is given up, `cohort`
    refills all K once every one of them is free (synchronous rounds). Clients are drawn uniformly from the idle ones.
    """

    def __init__(self, config: ExperimentConfig, dispatch: Dispatch) -> None:
        self._concurrency = config.server.concurrency
        self._refill_at = 1 if dispatch == "continuous" else self._concurrency
        self._durations = _DurationTable(config.delays, config.seed, config.task.clients)
        self._faults = FaultTable(config)
        timeout = config.faults.timeout
        self._timeout = None if timeout is None else round(timeout * NANOSECONDS)
        self._draws = _Draws(config.seed)
        self._idle = list(range(config.task.clients))
        self._jobs_of_client = array("q", bytes(8 * config.task.clients))
        self._training: list[tuple[int, int, int]] = []
        self._uploading: list[tuple[int, int, int]] = []
        self._incidents: list[tuple[int, int, int, int, ClientTask]] = []
        self._cost = server_cost(config)
        self._in_step: tuple[int, ClientTask] | None = None
        self._step_ends = 0
        self._lost_in_a_row = 0
        self._in_flight: dict[int, ClientTask] = {}
        self._free = self._concurrency
        self._jobs = 0
        self.now = 0
        """Virtual nanoseconds of the latest event."""
        self.arrivals = 0
        """Uploads taken so far."""
        self._refill()

    @property
    def in_flight(self) -> list[ClientTask]:
        """Dispatched, not yet taken and not given up, in order of dispatch."""
        return list(self._in_flight.values())

    @property
    def cohort_complete(self) -> bool:
        """Whether the latest event refilled every slot that had become free."""
        return self._free == 0

    def next_event_at(self) -> int:
        """Virtual nanoseconds of the next event."""
        upload = self._upload_in_step()
        if upload is None:
            return self._incidents[0][0]
        return min(upload[0], self._incidents[0][0]) if self._incidents else upload[0]

    def advance(self) -> Arrival | Incident:
        """Play the next event: take an upload, or let an incident happen, and refill.

        Raises:
            UserError: nobody can finish any more (exit code 6).
        """
        self.now = self.next_event_at()
        while self._training and self._training[0][0] <= self.now:
            self._idle.append(heappop(self._training)[1])
        if self._in_step is None or self._in_step[0] > self.now:
            return self._incident()
        self._step_ends, task = self._in_step
        self._in_step = None
        sequence = self.arrivals
        self.arrivals += 1
        self._lost_in_a_row = 0
        return Arrival(sequence, task, self._freed(task))

    def _upload_in_step(self) -> tuple[int, ClientTask] | None:
        """When the server will have done the step it is at, and for whose upload; None while it waits for one.

        The next upload is fixed only once no incident can come before it: the client that replaces a lost one may
        be faster.
        """
        if self._in_step is None and self._uploading:
            arrives, _, job = self._uploading[0]
            if not self._incidents or arrives <= self._incidents[0][0]:
                heappop(self._uploading)
                task = self._in_flight[job]
                self._in_step = max(arrives, self._step_ends) + self._cost(self.arrivals, task), task
        return self._in_step

    def _incident(self) -> Incident:
        _, kind, _, _, task = heappop(self._incidents)
        if kind == _SECOND_COPY:
            return Incident(task, ())
        self._lost_in_a_row += (
            self._in_step is None
        )  # otherwise somebody has finished, and waits for the server
        # Of the jobs lost since the latest upload, K may be older than it: others of their time have finished.
        if self._lost_in_a_row >= _LOST_IN_A_ROW + self._concurrency:
            raise UserError(
                f"faults: nobody can finish, {self._lost_in_a_row} jobs were lost one after the other; lower "
                "faults.dropout and faults.crash, or raise faults.timeout",
                exit_code=ExitCode.POLICY,
            )
        return Incident(task, self._freed(task))

    def _freed(self, task: ClientTask) -> tuple[ClientTask, ...]:
        del self._in_flight[task.job]
        self._free += 1
        return self._refill() if self._free >= self._refill_at else ()

    def _refill(self) -> tuple[ClientTask, ...]:
        dispatched = tuple(self._dispatch() for _ in range(self._free))
        self._free = 0
        return dispatched

    def _dispatch(self) -> ClientTask:
        idle, job = self._idle, self._jobs
        position = (self._draws[job] * len(idle)) >> 64
        client = idle[position]
        idle[position] = idle[-1]
        idle.pop()
        nth = self._jobs_of_client[client]
        self._jobs_of_client[client] = nth + 1
        fault = self._faults.of(client, nth)
        trained, arrives = self._durations.of(client, nth)
        if self._timeout is not None:
            trained, arrives, fault = _within(self._timeout, trained, arrives, fault)
        task = ClientTask(client, job, nth, self.arrivals, self.now, self.now + arrives, fault)
        heappush(self._training, (self.now + trained, client, job))
        if fault in LOST:
            heappush(self._incidents, (task.arrives_at, _GIVEN_UP, client, job, task))
        else:
            heappush(self._uploading, (task.arrives_at, client, job))
        if fault is Fault.DUPLICATE:
            heappush(self._incidents, (task.arrives_at + arrives, _SECOND_COPY, client, job, task))
        self._in_flight[job] = task
        self._jobs = job + 1
        return task


def _within(timeout: int, trained: int, arrives: int, fault: Fault) -> tuple[int, int, Fault]:
    """Durations and fault of a job that the server gives up after `timeout` nanoseconds; its client stops then."""
    if fault is Fault.DROPOUT:
        return timeout, timeout, fault
    if fault is Fault.CRASH:
        return min(trained, timeout), timeout, fault
    if arrives > timeout:
        return min(trained, timeout), timeout, Fault.LATE
    return trained, arrives, fault


class _DurationTable:
    """Durations of every client's n-th job, sampled for all clients at once when the first one gets there.

    A vectorised draw costs under a microsecond per job, a scalar one tens; clients are drawn uniformly, so they
    reach their n-th job at about the same time and little is sampled in vain.
    """

    def __init__(self, settings: DelaySettings, seed: int, clients: int) -> None:
        self._settings, self._seed, self._clients = settings, seed, clients
        self._jobs_per_block = -(-_BLOCK // clients)
        self._trained = array("q")
        self._arrives = array("q")

    def of(self, client: int, nth: int) -> tuple[int, int]:
        """Nanoseconds from dispatch until training ends and until the upload arrives."""
        index = nth * self._clients + client
        while index >= len(self._trained):
            start = len(self._trained) // self._clients
            jobs = range(start, start + self._jobs_per_block)
            durations = sample_durations(self._settings, self._seed, self._clients, jobs)
            self._trained.frombytes(durations.trained.tobytes())
            self._arrives.frombytes(durations.arrives.tobytes())
        return self._trained[index], self._arrives[index]


class _Draws:
    """The participation stream: one 64-bit word per dispatch."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._words = array("Q")

    def __getitem__(self, job: int) -> int:
        while job >= len(self._words):
            start = len(self._words) // 4
            counters = range(start, start + _BLOCK // 4)
            self._words.frombytes(philox(self._seed, Purpose.PARTICIPATION, 0, counters).tobytes())
        return self._words[job]

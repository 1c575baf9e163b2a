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
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush

from fedrevive.algorithms.server_algorithm import Dispatch
from fedrevive.core.faults import LOST, Fault
from fedrevive.core.messages import ClientTask
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import ExitCode, UserError
from fedrevive.simulation.availability import Availability
from fedrevive.simulation.delays import NANOSECONDS
from fedrevive.simulation.duration_table import DurationTable
from fedrevive.simulation.faults import FaultTable, within_timeout
from fedrevive.simulation.participation import Draws
from fedrevive.simulation.server_work import server_cost

_LOST_IN_A_ROW = 10_000
"""Jobs dispatched and given up without any upload meanwhile, after which nobody is expected to finish. Ours."""
_GIVEN_UP, _SECOND_COPY = 0, 1
_NEVER = 2**200


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


@dataclass(frozen=True)
class Opening:
    """A client becomes available while slots wait for one, and is dispatched."""

    dispatched: tuple[ClientTask, ...]


class Timeline:
    """The event heaps, played forward one event at a time.

    Constant concurrency K: `continuous` refills a slot when its upload is taken or its job is given up, `cohort`
    refills all K once every one of them is free (synchronous rounds). Clients are drawn uniformly from the idle ones
    that are available. Where a trace makes them scarce, slots wait for the next client that comes back, and a cohort
    is as large as clients are available when it begins.
    """

    def __init__(self, config: ExperimentConfig, dispatch: Dispatch) -> None:
        self._concurrency = config.server.concurrency
        self._refill_at = 1 if dispatch == "continuous" else self._concurrency
        self._durations = DurationTable(config)
        self._availability = self._durations.availability
        self._faults = FaultTable(config)
        timeout = config.faults.timeout
        self._timeout = None if timeout is None else round(timeout * NANOSECONDS)
        self._draws, self._redraws = Draws(config.seed, 0), Draws(config.seed, 1)
        self._redrawn = 0
        self._idle = list(range(config.task.clients))
        self._jobs_of_client = array("q", bytes(8 * config.task.clients))
        self._busy: list[tuple[int, int, int]] = []
        self._uploading: list[tuple[int, int, int]] = []
        self._incidents: list[tuple[int, int, int, int, ClientTask]] = []
        self._cost = server_cost(config)
        self._in_step: tuple[int, ClientTask] | None = None
        self._step_ends = 0
        self._lost_in_a_row = 0
        self._in_flight: dict[int, ClientTask] = {}
        self._free = self._concurrency
        self._unfilled = 0
        self._waiting = False
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
        """Whether the latest event refilled the slots that had become free, as far as clients were available."""
        return self._free == self._unfilled and bool(self._in_flight)

    def next_event_at(self) -> int:
        """Virtual nanoseconds of the next event."""
        upload = self._upload_in_step()
        if upload is None:
            return self._interruption_at()
        if self._incidents or self._waiting:
            return min(upload[0], self._interruption_at())
        return upload[0]

    def advance(self) -> Arrival | Incident | Opening:
        """Play the next event: take an upload, or let something else happen, and refill.

        Raises:
            UserError: nobody can finish any more (exit code 6).
        """
        self.now = self.next_event_at()
        while self._busy and self._busy[0][0] <= self.now:
            self._idle.append(heappop(self._busy)[1])
        if self._in_step is None or self._in_step[0] > self.now:
            incident = self._incidents and self._incidents[0][0] == self.now
            return self._incident() if incident else Opening(self._refill())
        self._step_ends, task = self._in_step
        self._in_step = None
        sequence = self.arrivals
        self.arrivals += 1
        self._lost_in_a_row = 0
        return Arrival(sequence, task, self._freed(task))

    def _interruption_at(self) -> int:
        """When something happens that is no upload."""
        lost = self._incidents[0][0] if self._incidents else _NEVER
        return min(lost, self._busy[0][0]) if self._waiting else lost

    def _upload_in_step(self) -> tuple[int, ClientTask] | None:
        """When the server will have done the step it is at, and for whose upload; None while it waits for one.

        The next upload is fixed only once nothing else can come before it: the client that replaces a lost one, or
        that comes back, may be faster.
        """
        if self._in_step is None and self._uploading:
            arrives, _, job = self._uploading[0]
            if not (self._incidents or self._waiting) or arrives <= self._interruption_at():
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
        if self._availability is None:
            dispatched = tuple(
                self._dispatch(self._drawn(self._draws[self._jobs])) for _ in range(self._free)
            )
        else:
            dispatched = tuple(self._dispatch(client) for client in self._present(self._availability))
        self._free -= len(dispatched)
        self._unfilled = self._free
        self._waiting = self._free >= self._refill_at
        return dispatched

    def _drawn(self, word: int) -> int:
        """Take an idle client, by a random 64-bit word."""
        idle = self._idle
        position = (word * len(idle)) >> 64
        client = idle[position]
        idle[position] = idle[-1]
        idle.pop()
        return client

    def _present(self, availability: Availability) -> Iterator[int]:
        """Idle clients that are available, drawn uniformly: one for every free slot, or all there are.

        One that is drawn in vain is not drawn again before it is available: to look at all idle ones each time would
        cost more.
        """
        for _ in range(self._free):
            word = self._draws[self._jobs]
            while self._idle:
                client = self._drawn(word)
                opens = availability.opens(client, self.now)
                if opens == self.now:
                    yield client
                    break
                heappush(self._busy, (opens, client, self._jobs))
                word = self._redraws[self._redrawn]
                self._redrawn += 1

    def _dispatch(self, client: int) -> ClientTask:
        job, now = self._jobs, self.now
        nth = self._jobs_of_client[client]
        self._jobs_of_client[client] = nth + 1
        fault = self._faults.of(client, nth)
        trained, arrives = self._durations.of(client, nth)
        if self._availability is not None:
            trained = self._availability.lasts(client, now, trained)
            arrives = self._availability.lasts(client, now, arrives)
        if self._timeout is not None:
            trained, arrives, fault = within_timeout(self._timeout, trained, arrives, fault)
        task = ClientTask(client, job, nth, self.arrivals, now, now + arrives, fault)
        free = (
            now + trained if self._availability is None else self._availability.opens(client, now + trained)
        )
        heappush(self._busy, (free, client, job))
        if fault in LOST:
            heappush(self._incidents, (task.arrives_at, _GIVEN_UP, client, job, task))
        else:
            heappush(self._uploading, (task.arrives_at, client, job))
        if fault is Fault.DUPLICATE:
            heappush(self._incidents, (task.arrives_at + arrives, _SECOND_COPY, client, job, task))
        self._in_flight[job] = task
        self._jobs = job + 1
        return task

"""Who is dispatched when, from which server state, arriving when: a pure function of configuration and seed.

Time is integer virtual nanoseconds. The order of events is (time, kind, client, job), a total order that does not
depend on how events were inserted; a client that finishes training at the very moment of an acceptance is idle first.
An upload is accepted when it arrives. With `server.charge_time` the server works on one upload after the other, in
order of arrival, and accepts each when its planned step is done: at max(arrival, last acceptance) + cost.
No event depends on a trained model, so any number of workers may compute jobs ahead while the order stays fixed, and a
resumed run rebuilds its timeline by playing it again instead of reading it from a file.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from heapq import heappop, heappush

from fedrevive.algorithms.server_algorithm import Dispatch
from fedrevive.core.messages import ClientTask
from fedrevive.core.seeds import Purpose, philox
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.delays import DelaySettings
from fedrevive.simulation.delays import sample_durations
from fedrevive.simulation.server_work import server_cost

_BLOCK = 8192


@dataclass(frozen=True)
class Arrival:
    """One accepted upload and the dispatches that fill the freed slots."""

    sequence: int
    """0, 1, 2, ... in order of acceptance."""
    task: ClientTask
    dispatched: tuple[ClientTask, ...]


class Timeline:
    """The event heaps, played forward one acceptance at a time.

    Constant concurrency K: `continuous` refills a slot when its upload is accepted, `cohort` refills all K once every
    one of them is free (synchronous rounds). Clients are drawn uniformly from the idle ones.
    """

    def __init__(self, config: ExperimentConfig, dispatch: Dispatch) -> None:
        self._concurrency = config.server.concurrency
        self._refill_at = 1 if dispatch == "continuous" else self._concurrency
        self._durations = _DurationTable(config.delays, config.seed, config.task.clients)
        self._draws = _Draws(config.seed)
        self._idle = list(range(config.task.clients))
        self._jobs_of_client = array("q", bytes(8 * config.task.clients))
        self._training: list[tuple[int, int, int]] = []
        self._uploading: list[tuple[int, int, int]] = []
        self._cost = server_cost(config)
        self._next_acceptance: int | None = None
        self._in_flight: dict[int, ClientTask] = {}
        self._free = self._concurrency
        self._jobs = 0
        self.now = 0
        """Virtual nanoseconds of the latest acceptance."""
        self.arrivals = 0
        """Uploads accepted so far."""
        self._refill()

    @property
    def in_flight(self) -> list[ClientTask]:
        """Dispatched and not yet accepted, in order of dispatch."""
        return list(self._in_flight.values())

    def next_acceptance_at(self) -> int:
        """Virtual nanoseconds at which the next upload will be accepted."""
        if self._next_acceptance is None:
            arrives, _, job = self._uploading[0]
            self._next_acceptance = max(arrives, self.now) + self._cost(self.arrivals, self._in_flight[job])
        return self._next_acceptance

    def advance(self) -> Arrival:
        """Accept the next upload and refill."""
        self.now = self.next_acceptance_at()
        self._next_acceptance = None
        _, _, job = heappop(self._uploading)
        while self._training and self._training[0][0] <= self.now:
            self._idle.append(heappop(self._training)[1])
        task = self._in_flight.pop(job)
        sequence = self.arrivals
        self.arrivals += 1
        self._free += 1
        dispatched = self._refill() if self._free >= self._refill_at else ()
        return Arrival(sequence, task, dispatched)

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
        trained, arrives = self._durations.of(client, nth)
        task = ClientTask(client, job, nth, self.arrivals, self.now, self.now + arrives)
        heappush(self._training, (self.now + trained, client, job))
        heappush(self._uploading, (task.arrives_at, client, job))
        self._in_flight[job] = task
        self._jobs = job + 1
        return task


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

"""Delays of clients that behave as the devices of a table: a pure function of table, configuration and seed.

Client i behaves as device i modulo D of a shuffle of the D devices, so all devices serve equally many clients. Each
client begins at a random place of its device's observations and takes the next one with each of its jobs, the first one
again after the last: what follows each other in the table does so in the run.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedrevive.core.seeds import Purpose, philox, uniform
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.delays import TraceDelays
from fedrevive.simulation.availability import Availability
from fedrevive.simulation.delays import NANOSECONDS, Durations, durations
from fedrevive.simulation.trace_rows import SERIES
from fedrevive.simulation.trace_table import load_trace
from fedrevive.tasks import task_info
from fedrevive.tasks.models import build_model

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_DEVICES, _PLACES = 0, 1
_UNOBSERVED = {"step_seconds": np.nan, "download_kbps": np.inf, "upload_kbps": np.inf, "latency_seconds": 0.0}
"""What a device has of a quantity that was never observed; every device has a step_seconds."""


class TraceDurations:
    """How long the jobs of every client take, and when clients are available.

    Args:
        config: the experiment; its delays are a trace.

    Raises:
        UserError: as `trace_table.load_trace`.
    """

    def __init__(self, config: ExperimentConfig) -> None:
        delays = config.delays
        assert isinstance(delays, TraceDelays)
        self._table = load_trace(delays)
        clients = config.task.clients
        self._device = devices_of_clients(config.seed, clients, self._table.devices)
        self._place = uniform(philox(config.seed, Purpose.TRACE, np.arange(clients), _PLACES)[:, 0])
        self._steps = config.client.local_steps
        self._seconds_per_unit = delays.seconds_per_unit
        size = delays.model_megabytes
        self._kilobits = 8e3 * (_megabytes(config) if size is None else size)

    def of(self, jobs: range) -> Durations:
        """Durations of jobs number `jobs` of every client, each [jobs, clients]."""
        nth = np.arange(jobs.start, jobs.stop)[:, None]
        step, down, up, latency = (self._observed(name, nth) for name in SERIES)
        phases = latency + self._kilobits / down, step * self._steps, latency + self._kilobits / up
        return durations(*(seconds / self._seconds_per_unit for seconds in phases))

    def availability(self) -> Availability | None:
        """When each client is available; None = all of them always."""
        windows = self._table.windows
        if all(each is None for each in windows):
            return None
        return Availability(windows, self._device.tolist(), NANOSECONDS / self._seconds_per_unit)

    def _observed(self, name: str, nth: Int64) -> Float64:
        """A quantity of each client's job, [jobs, clients]."""
        series = self._table.series[name]
        count = series.counts[self._device]
        offset = (np.floor(self._place * count).astype(np.int64) + nth) % np.maximum(count, 1)
        index = np.where(count > 0, series.first[self._device] + offset, len(series.values))
        observed: Float64 = np.append(series.values, _UNOBSERVED[name])[index]
        return observed


def devices_of_clients(seed: int, clients: int, devices: int) -> Int64:
    """The device that each client behaves as, [clients]."""
    words = philox(seed, Purpose.TRACE, np.arange(devices), _DEVICES)[:, 0]
    shuffled = np.argsort(words, kind="stable")
    return shuffled[np.arange(clients) % devices]


def _megabytes(config: ExperimentConfig) -> float:
    """Size of the network as it travels."""
    model = build_model(config.model, task_info(config.task), config.seed)
    return 4e-6 * model.spec.size

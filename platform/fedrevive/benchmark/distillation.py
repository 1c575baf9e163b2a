"""B8: arrivals that distil, through the server itself; their steps one by one; and the bare passes as the floor."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from fedrevive.assemble import new_model, server
from fedrevive.benchmark.distillation_steps import FLOORS, STEPS, DistillationSteps
from fedrevive.benchmark.measuring import Row, Sample, interleaved, row
from fedrevive.benchmark.problems import RESNET, SMALL_CNN, TEACHERS, distilling
from fedrevive.benchmark.session import Bench
from fedrevive.benchmark.sizes import SEED
from fedrevive.core.messages import ClientUpdate, FloatVector
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.fedrevive import FedReviveSettings

PER_ARRIVAL = "CPU-ms/arrival"
SMALL_POOL = 256


def kd(bench: Bench) -> list[Row]:
    """B8 with the small CNN."""
    return [*_shares(bench, SMALL_CNN, bench.sizes.distilled_arrivals), _remembered(bench)]


def kd_large(bench: Bench) -> list[Row]:
    """B8 with ResNet-18."""
    return _shares(bench, RESNET, bench.sizes.distilled_large_arrivals)


def _shares(bench: Bench, network: tuple[str, ...], count: int) -> list[Row]:
    config = distilling(network, bench.sizes.pool_samples, bench.sizes.distill_steps)
    arrivals, steps = DistillingServer(config), DistillationSteps(config)
    pieces = {**steps.steps(), **steps.floors()}
    cases = {name: partial(_timed, piece) for name, piece in pieces.items()}
    cases["arrival"] = partial(arrivals.sample, count)
    for case in cases.values():
        case()
    taken = interleaved(cases, bench.sizes.repetitions)
    cpu = {name: [sample.cpu_ms for sample in samples] for name, samples in taken.items()}
    whole = cpu["arrival"]
    floor = [min(forms) for forms in zip(*(cpu[name] for name in FLOORS), strict=True)]
    rest = [total - sum(cpu[name][n] for name in STEPS) for n, total in enumerate(whole)]
    return [
        row("efficiency", PER_ARRIVAL, whole, floor, checksum=taken["arrival"][0].checksum),
        *(share(f"share_{name}", cpu[name], whole) for name in STEPS),
        share("share_remaining", rest, whole),
        row("arrivals_per_second", "arrivals/s", [1e3 / sample.wall_ms for sample in taken["arrival"]]),
    ]


def _remembered(bench: Bench) -> Row:
    """Teachers whose answers are remembered (ours) beside teachers that are asked, over a pool of 256."""
    count, steps = bench.sizes.distilled_arrivals, bench.sizes.distill_steps
    forms = {
        form: DistillingServer(distilling(SMALL_CNN, SMALL_POOL, steps, f"algorithm.remember_answers={form}"))
        for form in ("true", "false")
    }
    cases = {form: partial(arrivals.sample, count) for form, arrivals in forms.items()}
    for case in cases.values():
        case()
    taken = interleaved(cases, bench.sizes.repetitions)
    cpu = {form: [sample.cpu_ms for sample in samples] for form, samples in taken.items()}
    return row("remembered", PER_ARRIVAL, cpu["true"], cpu["false"], checksum=taken["true"][0].checksum)


def share(metric: str, part: list[float], whole: list[float]) -> Row:
    """A step beside the whole arrival; its ratio is the share."""
    return row(metric, PER_ARRIVAL, part, whole, more_is_better=True)


def _timed(piece: Callable[[], object]) -> Sample:
    cpu, clock = time.thread_time(), time.perf_counter()
    piece()
    return Sample(1e3 * (time.thread_time() - cpu), 1e3 * (time.perf_counter() - clock))


class DistillingServer:
    """A server with a full teacher buffer and a filled pool, brought back to that state before every measurement."""

    def __init__(self, config: ExperimentConfig) -> None:
        assert isinstance(config.algorithm, FedReviveSettings)
        self._server = server(config, None)
        self._parameters = new_model(config, "cpu").spec.parameter_count
        self._random = np.random.Generator(np.random.Philox(SEED))
        self._warm_arrivals = TEACHERS + 1
        for arrival in range(self._warm_arrivals):
            self._server.apply(self._server.snapshot(), self._upload(arrival), arrival)
        self._state = self._server.capture()

    def sample(self, count: int) -> Sample:
        """`count` arrivals, each of a client that was never seen, so each is probed."""
        base = self._server.restore(self._state)
        arrivals = range(self._warm_arrivals, self._warm_arrivals + count)
        self._random = np.random.Generator(np.random.Philox(SEED))
        uploads = [self._upload(arrival) for arrival in arrivals]
        cpu, clock = time.thread_time(), time.perf_counter()
        for arrival, upload in zip(arrivals, uploads, strict=True):
            latest, _ = self._server.apply(base, upload, arrival)
        seconds = time.thread_time() - cpu, time.perf_counter() - clock
        checksum = hashlib.sha256(latest.model.tobytes()).hexdigest()
        return Sample(1e3 * seconds[0] / count, 1e3 * seconds[1] / count, checksum)

    def _upload(self, arrival: int) -> ClientUpdate:
        model: FloatVector = self._server.snapshot().model.copy()
        noise = self._random.standard_normal(self._parameters, dtype=np.float32)
        model[: self._parameters] += np.float32(0.01) * noise
        return ClientUpdate(client_id=arrival, job=arrival, model=model, samples=1, train_loss=0.0)

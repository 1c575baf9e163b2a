"""What the server has to compute for every upload, known before anything is trained.

Probing, synthesis and distillation are decided by who uploads when, not by what was learnt, so their cost is a pure
function of configuration and seed: `plan` prints it, and `server.charge_time` turns it into virtual time.
"""

from __future__ import annotations

from collections.abc import Callable

from fedrevive.core.beta_rule import Observed, configured_beta_rule
from fedrevive.core.flops import ArrivalWork, arrival_flops, distillation_forwards
from fedrevive.core.messages import ClientTask
from fedrevive.core.remembered_answers import PlannedAnswers
from fedrevive.core.schedules import gates, warmup_versions
from fedrevive.core.teachers import PROBED_UPLOADS
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.fedrevive import FedReviveSettings
from fedrevive.settings.peers import DdFedReviveSettings
from fedrevive.simulation.delays import LONGEST_UNITS, NANOSECONDS
from fedrevive.tasks import task_info
from fedrevive.tasks.models import build_model, forward_flops


class PlannedWork:
    """Server operations of one upload after the other; `of` is asked once for each, in order of acceptance.

    Args:
        config: the experiment.
        forward_flops: forward pass of the client model for one sample.
        input_shape: (C, H, W) of one image, or (L,) of one text.
    """

    def __init__(self, config: ExperimentConfig, forward_flops: int, input_shape: tuple[int, ...]) -> None:
        self._algorithm = config.algorithm
        self._concurrency = config.server.concurrency
        self._updates_per_version = config.updates_per_version
        self._forward_flops = forward_flops
        self._input_shape = input_shape
        self._beta = configured_beta_rule(config)
        if isinstance(self._algorithm, FedReviveSettings):
            self._gates = gates(
                self._algorithm,
                concurrency=self._concurrency,
                updates_per_version=self._updates_per_version,
            )
            if self._algorithm.remember_answers:
                capacity = self._algorithm.pool_capacity
                self._answers = PlannedAnswers(self._algorithm.teacher_capacity, capacity)
        self._uploads: dict[int, int] = {}
        self._observed: Observed = ()
        self._arrivals = 0
        self._generated, self._pooled = -1, False
        self._flops: dict[ArrivalWork, float] = {}

    def of(self, client: int, staleness: int) -> float:
        """Operations for the next upload; 0 for algorithms that only average.

        Args:
            client: who uploads.
            staleness: of the upload, in versions.
        """
        settings = self._algorithm
        if isinstance(settings, DdFedReviveSettings):
            return self._on_real_images(settings, staleness)
        if not isinstance(settings, FedReviveSettings) or settings.reviver.kind != "distillation":
            return 0.0
        work = self._next(settings, client, staleness)
        if work not in self._flops:
            self._flops[work] = arrival_flops(work, settings, self._forward_flops, self._input_shape)
        return self._flops[work]

    def _on_real_images(self, settings: DdFedReviveSettings, staleness: int) -> float:
        """The decisions of algorithms/dd_fedrevive.py."""
        assert self._beta is not None
        version = self._arrivals // self._updates_per_version
        beta, self._observed = self._beta.evaluate(self._observed, staleness)
        self._arrivals += 1
        if beta == 0 or version <= warmup_versions(settings.warmup_versions, concurrency=self._concurrency):
            return 0.0
        teachers = min(self._arrivals, settings.teacher_capacity)
        return float(distillation_forwards(settings, teachers)) * self._forward_flops

    def _next(self, settings: FedReviveSettings, client: int, staleness: int) -> ArrivalWork:
        """The decisions of algorithms/fedrevive.py, which depend on no trained value."""
        assert self._beta is not None
        gate, (version, pending) = self._gates, divmod(self._arrivals, self._updates_per_version)
        beta, self._observed = self._beta.evaluate(self._observed, staleness)
        adds = gate.revives(beta) and gate.synthesises(version, self._generated)
        if adds:
            self._generated, self._pooled = version, True
        distils = gate.revives(beta) and gate.distils(version) and gate.completes(pending)
        uploads = self._uploads.get(client, 0)
        self._uploads[client] = uploads + 1
        self._arrivals += 1
        distilled = distils and (self._pooled or settings.distill_steps == 0)
        return ArrivalWork(
            teachers=min(self._arrivals, settings.teacher_capacity),
            probed=settings.proportions == "proxy" and uploads < PROBED_UPLOADS,
            synthesised=adds and settings.pool == "generator",
            adversarial=gate.adversarial(version) and settings.weights.adversarial > 0,
            distilled=distilled,
            asked=self._asked(settings, adds, distilled),
        )

    def _asked(self, settings: FedReviveSettings, adds: bool, distilled: bool) -> int | None:
        if not settings.remember_answers:
            return None
        self._answers.admitted()
        if adds:
            self._answers.appended(settings.synthesis_batch)
        return self._answers.completed() if distilled else None


ServerCost = Callable[[int, ClientTask], int]
"""Virtual nanoseconds of server step n = 0, 1, 2, ..., which is for the task; asked once for each n, in order."""


def forward_work(config: ExperimentConfig) -> tuple[int, tuple[int, ...]]:
    """Operations of one sample's forward pass, and its shape."""
    info = task_info(config.task)
    return forward_flops(build_model(config.model, info, config.seed), info), info.input_shape


def server_cost(config: ExperimentConfig) -> ServerCost:
    """The cost model of `server.charge_time`; free without one."""
    charge = config.server.charge_time
    if charge is None:
        return lambda sequence, task: 0
    planned, updates = PlannedWork(config, *forward_work(config)), config.updates_per_version

    def cost(sequence: int, task: ClientTask) -> int:
        staleness = sequence // updates - task.base_arrivals // updates
        units = planned.of(task.client_id, staleness) / charge.flops_per_unit
        return round(min(units, LONGEST_UNITS) * NANOSECONDS)

    return cost

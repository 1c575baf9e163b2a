"""The whole configuration: one experiment = one `ExperimentConfig` (its seed included)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedrevive.settings.algorithm import AlgorithmSettings
from fedrevive.settings.client import ClientSettings
from fedrevive.settings.delays import DelaySettings, FedReviveDefaultDelays
from fedrevive.settings.faults import FaultSettings
from fedrevive.settings.fedrevive import FedReviveSettings
from fedrevive.settings.input_kind import misfit
from fedrevive.settings.model import CnnSettings, ModelSettings
from fedrevive.settings.peers import DdFedReviveSettings
from fedrevive.settings.section import PathText, Section
from fedrevive.settings.task import DigitsTask, TaskSettings

APPLY_EVERY_UPDATE = ("fedasync", "asyncfeded", "fedfa")
"""Algorithms without a buffer of updates: B = 1."""
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class ChargeTimeSettings(Section):
    """Cost model of a server that works in virtual time: one upload after the other, in order of arrival.

    Costs are planned from the configuration, never measured, and slots refill later by them: algorithms that cost
    differently no longer meet the same arrivals.
    """

    flops_per_unit: float = Field(gt=0, le=1e30)
    """Server's floating-point operations (multiply-add = 2) per virtual time unit, > 0; synthesis, distillation and probing are charged, averaging is free, and a rejected upload costs what it was planned to. No default: it is the assumption that results are quoted with."""


class GateSettings(Section):
    """What an upload must pass before any algorithm or teacher buffer sees it; a rejected one becomes an event, and its slot is refilled as any other."""

    finite: bool = True
    """Reject uploads with NaN, infinite or absurd (beyond 1e15) values, or a negative running variance. Ours: on."""
    max_norm_factor: Annotated[float, Field(ge=1, le=1e9)] | None = None
    """Reject uploads whose client delta is longer than this times the median of the recent ones, >= 1, parameters and buffers each by a median of their own; null = any length. Ours: off; 4 is a good first value."""
    norm_window: int = Field(20, ge=5, le=100_000)
    """Recent uploads whose lengths the median is taken of, >= 5; the first five only teach it and are rejected. Ours."""


class ServerSettings(Section):
    """Slots, aggregation and step size of the server."""

    concurrency: int = Field(20, ge=1, le=1_000_000)
    """K: clients training at any virtual time, 1..N. Ours (paper: 100 of 1000)."""
    updates_per_version: Literal["auto"] | Annotated[int, Field(ge=1, le=1_000_000)] = "auto"
    """B: updates averaged into one version, 1..K; auto = 1, or K for fedavg. Paper: 1 (FedRevive)."""
    lr: float = Field(0.1, gt=0, le=100)
    """Server learning rate eta_s (fedasync: alpha; asyncfeded: lambda; fedfa: 1), > 0. Published example: 0.1 (FedRevive)."""
    gate: GateSettings = Field(default_factory=GateSettings)
    """Which uploads are rejected."""
    charge_time: ChargeTimeSettings | None = None
    """How long server steps take in virtual time; null = no time (published). An upload waits for the steps before it and is accepted when its own is done."""


class StopSettings(Section):
    """When a run ends: the first condition met; at least one is required."""

    arrivals: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Uploads that reached the server, accepted or rejected, >= 1."""
    virtual_time: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Virtual time units, > 0; an upload due later is not accepted. Published: 200 (default delays), 100 (shifted)."""
    target_accuracy: Annotated[float, Field(gt=0, le=1)] | None = None
    """Validation accuracy (moving average of 10 evaluations) at which to stop, in (0, 1]."""


class EvaluationSettings(Section):
    """How often the server model is measured, and the accuracy that `time_to_target` refers to."""

    every_arrivals: int = Field(10, ge=1, le=1_000_000_000)
    """Arrivals between two evaluations (cohort algorithms: every version). Published example: 10."""
    target_accuracy: Annotated[float, Field(gt=0, le=1)] | None = None
    """Test accuracy whose first crossing (moving average of 10 evaluations) is reported as time_to_target; null = not reported. Ours."""


class SnapshotSettings(Section):
    """How often a run saves what `resume` needs. Never part of the results."""

    every_arrivals: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Arrivals between two snapshots; null = by real time only. Ours."""
    every_seconds: Literal["auto"] | Annotated[float, Field(gt=0, le=1e6)] = "auto"
    """Real seconds between two snapshots, > 0; auto = sqrt(2 * measured cost of a snapshot * 4 h), Young's rule for a failure every 4 hours or, if actors died, as often as they did (ours); the first after 10 s."""


class ComputeSettings(Section):
    """Where the work runs. `executor` and `workers` never change a result."""

    executor: Literal["inline", "ray"] = "ray"
    """inline: everything in this process (reference, debugger); ray: clients and server as Ray actors. Ours."""
    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=4096)] = "auto"
    """Client actors; auto = the CPUs of this machine. Ours."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the server (distillation); auto = cuda when there is one. Ours."""
    client_device: Literal["cpu", "cuda"] = "cpu"
    """Device of local training and evaluation. Ours."""


class ExperimentConfig(Section):
    """Everything a run depends on."""

    name: str = Field("experiment", pattern=NAME_PATTERN)
    """Name of the experiment (letters, digits, dot, underscore, hyphen; at most 64)."""
    seed: int = Field(0, ge=0, le=2**63 - 1)
    """Seed of every random stream."""
    task: TaskSettings = Field(default_factory=DigitsTask)
    """The federated problem."""
    model: ModelSettings = Field(default_factory=CnnSettings)
    """The network."""
    client: ClientSettings = Field(default_factory=ClientSettings)
    """Local training."""
    delays: DelaySettings = Field(default_factory=FedReviveDefaultDelays)
    """Virtual delays."""
    faults: FaultSettings = Field(default_factory=FaultSettings)
    """Simulated faults."""
    server: ServerSettings = Field(default_factory=ServerSettings)
    """Concurrency and aggregation."""
    algorithm: AlgorithmSettings = Field(default_factory=FedReviveSettings)
    """The server's rule."""
    stop: StopSettings = Field(default_factory=StopSettings)
    """When to stop."""
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    """When to evaluate."""
    snapshots: SnapshotSettings = Field(default_factory=SnapshotSettings)
    """When to save resume state."""
    compute: ComputeSettings = Field(default_factory=ComputeSettings)
    """Where to run."""
    output: PathText | None = None
    """Results folder; null = results/<name>-<run id>."""

    @property
    def updates_per_version(self) -> int:
        """B with `auto` resolved."""
        if self.server.updates_per_version != "auto":
            return self.server.updates_per_version
        return self.server.concurrency if self.algorithm.name == "fedavg" else 1

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        stop, server = self.stop, self.server
        if stop.arrivals is None and stop.virtual_time is None and stop.target_accuracy is None:
            raise ValueError(
                "stop: no stop condition; set at least one of stop.arrivals, stop.virtual_time, stop.target_accuracy"
            )
        if server.concurrency > self.task.clients:
            raise ValueError(
                f"server.concurrency: {server.concurrency} exceeds task.clients={self.task.clients}; "
                "lower the first or raise the second"
            )
        return self

    @model_validator(mode="after")
    def _inputs_fit(self) -> Self:
        reason = misfit(self.task, self.model, self.client, self.algorithm)
        if reason is not None:
            raise ValueError(reason)
        return self

    @model_validator(mode="after")
    def _server_fits_algorithm(self) -> Self:
        name, server = self.algorithm.name, self.server
        if name == "fedavg" and self.updates_per_version != server.concurrency:
            raise ValueError(
                f"server.updates_per_version: {server.updates_per_version} does not fit fedavg, whose cohort is "
                f"server.concurrency={server.concurrency}; use auto"
            )
        if name in APPLY_EVERY_UPDATE and self.updates_per_version != 1:
            raise ValueError(
                f"server.updates_per_version: {server.updates_per_version} does not fit {name}, which applies "
                "every update; use auto or 1"
            )
        if name == "fedasync" and server.lr > 1:
            raise ValueError(f"server.lr: {server.lr} is fedasync's alpha; it must be in (0, 1]")
        if name == "fedfa" and server.lr != 1:
            raise ValueError(
                f"server.lr: {server.lr} does not fit fedfa, whose model is a mean of client models; set server.lr=1"
            )
        return self

    @model_validator(mode="after")
    def _counts_fit(self) -> Self:
        clients, slots, updates = self.task.clients, self.server.concurrency, self.updates_per_version
        match self.algorithm:
            case (
                FedReviveSettings(teacher_capacity=teachers) | DdFedReviveSettings(teacher_capacity=teachers)
            ):
                if teachers > clients:
                    raise ValueError(
                        f"algorithm.teacher_capacity: {teachers} exceeds task.clients={clients}; "
                        "lower the first or raise the second"
                    )
        if updates > slots:
            raise ValueError(
                f"server.updates_per_version: {updates} exceeds server.concurrency={slots}, the clients at work; "
                "lower the first or raise the second"
            )
        return self

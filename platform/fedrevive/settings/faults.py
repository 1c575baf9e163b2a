"""`faults`: what goes wrong with clients and their uploads, to study robustness (all ours; default: nothing)."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from fedrevive.settings.section import Section

Share = Annotated[float, Field(ge=0, le=1)]


class FaultRate(Section):
    """How often a fault happens; both may be set."""

    jobs: Share = 0.0
    """Probability that a job suffers it, whoever the client is, in [0, 1]. Ours."""
    clients: Share = 0.0
    """Share of the clients whose every job suffers it, in [0, 1]; rounded to whole clients, at least one. Ours."""


class Explosion(FaultRate):
    """Client deltas that are far too long, those of the buffers (running means and variances) too."""

    factor: float = Field(1e3, gt=1, le=1e30)
    """The delta is multiplied by it, > 1; running variances stay >= 0. Ours."""


class SignFlip(FaultRate):
    """Client deltas that point the other way; buffers stay as they were trained."""

    factor: float = Field(10.0, gt=0, le=1e30)
    """The delta is multiplied by its negative, > 0; a norm gate cannot see 1. Ours."""


class FaultSettings(Section):
    """Simulated faults, drawn per client and job from streams of their own; a job suffers the first one of this order that hits it."""

    timeout: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Virtual time units after a dispatch at which the server gives the job up, refills its slot and ignores whatever may come, > 0; null = it waits for ever. Ours."""
    dropout: FaultRate | None = None
    """The client never answers; it is busy until the timeout (availability, responsiveness)."""
    crash: FaultRate | None = None
    """The upload is lost after training (connectivity)."""
    duplicate: FaultRate | None = None
    """A second copy of the upload arrives as long after the first as that one took. The timeline drops it, because the job is done, and writes an event: nothing is sent twice and the server never sees the copy."""
    nan: FaultRate | None = None
    """Every parameter of the upload is NaN."""
    explosion: Explosion | None = None
    """The client delta, that of its buffers too, is multiplied by a large factor."""
    sign_flip: SignFlip | None = None
    """The client delta of the parameters is multiplied by a negative factor."""
    label_flip: FaultRate | None = None
    """The client trains on label classes - 1 - y in place of y (completeness of its data)."""

    @model_validator(mode="after")
    def _lost_jobs_are_given_up(self) -> Self:
        for name in ("dropout", "crash"):
            rate: FaultRate | None = getattr(self, name)
            if self.timeout is None and rate is not None and (rate.jobs or rate.clients):
                raise ValueError(
                    f"{name} needs faults.timeout: without one the server waits for ever; set it, in virtual time units"
                )
        return self

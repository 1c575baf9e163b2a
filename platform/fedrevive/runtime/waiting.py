"""Waiting for Ray: results, and failures as errors a user can act on instead of waits that never end."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from fedrevive.settings.errors import ExitCode, UserError

SLICE_SECONDS = 5.0
"""How long to wait before looking whether Ray itself is still there."""


def done_of(watched: list[Any], *, wait: bool) -> list[Any]:
    """Those of `watched` that have finished; `wait` = at least one.

    Raises:
        UserError: Ray's node is gone (exit code 5).
    """
    while True:
        done, _ = ray.wait(
            watched, num_returns=1 if wait else len(watched), timeout=SLICE_SECONDS if wait else 0
        )
        if done or not wait:
            return done
        require_node()


def fetched(reference: Any, *, actor: str) -> Any:
    """The value behind a reference that an actor computes.

    Args:
        reference: Ray object reference.
        actor: who computes it, for the message.

    Raises:
        UserError: the actor died (exit code 5), or raised one itself.
        Exception: what the actor raised otherwise.
    """
    try:
        done_of([reference], wait=True)
        return ray.get(reference)
    except RayTaskError as error:
        raise cause_of(error) from None
    except RayActorError as error:
        raise UserError(
            f"compute: the {actor} actor died ({type(error).__name__}); is there enough memory? the run can be resumed",
            exit_code=ExitCode.ENVIRONMENT,
        ) from None


def cause_of(error: RayTaskError) -> BaseException:
    """What the actor raised; a `UserError` as itself, so that it stays one line."""
    if isinstance(error.cause, UserError):
        return error.cause
    cause: BaseException = error.as_instanceof_cause()  # type: ignore[no-untyped-call]
    return cause


def require_node() -> None:
    """Raise `UserError` (exit code 5) unless Ray's node is alive."""
    try:
        alive = any(node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]
    except RayError:
        alive = False
    if not alive:
        raise UserError(
            "compute: Ray's node process is gone; the run can be resumed", exit_code=ExitCode.ENVIRONMENT
        )

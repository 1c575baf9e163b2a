"""Waiting for Ray: results, and failures as errors a user can act on instead of waits that never end."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from fedrevive.settings.errors import ExitCode, UserError

SLICE_SECONDS = 5.0
"""How long to wait before looking whether Ray itself is still there."""


class LostError(Exception):
    """A process of Ray, or an object that only it had, is gone; computing it again is the remedy."""


def done_of(watched: list[Any], *, wait: bool) -> list[Any]:
    """Those of `watched` that have finished; `wait` = at least one.

    Raises:
        UserError: Ray's node is gone (exit code 5).
    """
    while True:
        done, _ = ray.wait(
            watched,
            num_returns=1 if wait else len(watched),
            timeout=SLICE_SECONDS if wait else 0,
        )
        if done or not wait:
            return done
        require_node()


def fetched(reference: Any) -> Any:
    """The value behind a reference.

    Args:
        reference: Ray object reference.

    Raises:
        LostError: the actor that computes it died, or something that it needs is gone.
        Exception: what the actor raised.
    """
    done_of([reference], wait=True)
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise cause_of(error) from None
    except RayError as error:
        raise LostError(type(error).__name__) from None


def cause_of(error: RayTaskError) -> BaseException:
    """What the actor raised; a `UserError` as itself, so that it stays one line; `LostError` if an argument is gone."""
    if isinstance(error.cause, UserError):
        return error.cause
    if isinstance(error.cause, RayError):
        return LostError(type(error.cause).__name__)
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

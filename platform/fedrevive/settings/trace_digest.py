"""Which table a `delays.kind=trace` configuration means: its bytes, not its name."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

from fedrevive.settings.delays import TraceDelays
from fedrevive.settings.errors import ExitCode, UserError, shown
from fedrevive.settings.experiment import ExperimentConfig


def with_digest(config: ExperimentConfig, place: str = "") -> ExperimentConfig:
    """The configuration with `delays.sha256` filled in; any other kind of delays as it is.

    Args:
        config: the experiment.
        place: where `delays.path` was written.

    Raises:
        UserError: there is no such table, or it is not the one with `delays.sha256`.
    """
    delays = config.delays
    if not isinstance(delays, TraceDelays):
        return config
    try:
        found = digest(delays)
    except UserError as error:
        raise UserError(error.message, place=place, exit_code=error.exit_code) from None
    return config.model_copy(update={"delays": delays.model_copy(update={"sha256": found})})


def digest(delays: TraceDelays) -> str:
    """SHA-256 of the table's bytes.

    Raises:
        UserError: there is no such file, or its digest is not `delays.sha256`.
    """
    path = Path(os.path.expanduser(delays.path))
    try:
        status = path.stat()
        if not path.is_file():
            raise UserError(f"delays.path: {shown(delays.path)} is no file; name a .csv or .parquet table")
        found = _digest(path, status.st_size, status.st_mtime_ns)
    except FileNotFoundError:
        raise UserError(
            f"delays.path: {shown(delays.path)} does not exist; make a table with: fedrevive trace"
        ) from None
    except OSError as error:
        raise UserError(
            f"delays.path: {shown(delays.path)} cannot be read ({error.strerror})",
            exit_code=ExitCode.ENVIRONMENT if isinstance(error, PermissionError) else ExitCode.USER,
        ) from None
    if delays.sha256 not in (None, found):
        raise UserError(
            f"delays.sha256: {shown(delays.path)} has {found[:16]}..., not the {str(delays.sha256)[:16]}... that was "
            "asked for; restore the table, or start a new run without delays.sha256"
        )
    return found


@functools.lru_cache(maxsize=8)
def _digest(path: Path, size: int, changed: int) -> str:
    """Of a file with this size and time of change; a search makes thousands of configurations of one table."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

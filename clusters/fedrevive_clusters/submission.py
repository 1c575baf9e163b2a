"""Commands of ours as jobs of a Ray cluster, through its dashboard: submit, follow, look at, stop."""

from __future__ import annotations

import asyncio
import logging
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import fedrevive.runtime  # noqa: F401  # first: it sets what Ray reads when it is imported

# isort: split
import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from fedrevive.provenance import package_folders
from fedrevive.runtime.private_session import LOCATION, require_token_mode
from fedrevive.settings.errors import ExitCode, UserError, ascii_text, shown

DASHBOARD = "http://127.0.0.1:8265"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_UNREACHABLE = "no dashboard answers there; forward its port: ssh -L 8265:127.0.0.1:8265 HEAD"
_MISSING = re.compile(r"status code 404|does not exist", re.IGNORECASE)
STOP_SECONDS = 60
"""How long a job that is asked to stop may take to save; Ray gives three. Ours."""
_PLACEHOLDER = ".fedrevive"
"""Ray refuses an empty folder."""
_POLL_SECONDS = 0.5
_CHATTY = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
"""They tell of every package and connection."""


@dataclass(frozen=True)
class Job:
    """A job, as the cluster tells of it."""

    number: str
    status: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    command: str
    message: str

    @classmethod
    def of(cls, details: Any) -> Job:
        return cls(
            details.submission_id or "-", details.status.value, details.entrypoint, details.message or ""
        )


class JobBoard:
    """The jobs of one cluster.

    Args:
        url: of its dashboard.
        option: what the user typed it into.

    Raises:
        UserError: exit code 2, it is no such URL, would send the token in the clear, or refuses it; 5, nobody answers.
    """

    def __init__(self, url: str, option: str) -> None:
        require_token_mode()
        self._place = f"{option}: {shown(url)}"
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise UserError(f"{self._place} is no address of a dashboard such as {DASHBOARD}")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise UserError(
                f"{self._place} would send the token unencrypted; use https, or forward the port: "
                f"ssh -L 8265:127.0.0.1:8265 {parts.hostname}"
            )
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        with self._translated():
            self._client = JobSubmissionClient(url)

    def submit(self, words: Sequence[str], files: Mapping[str, bytes]) -> str:
        """Start a command of ours in the cluster, with the code that runs here; returns the job's number.

        Args:
            words: after `fedrevive`.
            files: what it finds in its working folder.
        """
        with TemporaryDirectory(prefix="fedrevive-submit-") as folder:
            for name, content in {_PLACEHOLDER: b"", **files}.items():
                Path(folder, name).write_bytes(content)
            with self._translated():
                number: str = self._client.submit_job(
                    entrypoint=shlex.join(["python", "-m", "fedrevive", *words]),
                    runtime_env={
                        "working_dir": folder,
                        "py_modules": [str(path) for path in package_folders()],
                        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)},
                    },
                )
        return number

    def follow(self, number: str, show: Callable[[str], None]) -> None:
        """Pass a job's output on until it ends."""

        self.job(number)  # an unknown one is answered by a broken connection below

        async def tail() -> None:
            async for text in self._client.tail_job_logs(number):
                show(text)

        with self._translated(number):
            asyncio.run(tail())

    def logs(self, number: str) -> str:
        """What a job has written so far."""
        with self._translated(number):
            return self._client.get_job_logs(number)

    def job(self, number: str) -> Job:
        """What is known of a job."""
        with self._translated(number):
            return Job.of(self._client.get_job_info(number))

    def jobs(self) -> list[Job]:
        """All that were submitted."""
        with self._translated():
            listed = self._client.list_jobs()
        return [Job.of(details) for details in listed if details.submission_id]

    def stop(self, number: str) -> bool:
        """Ask a job to save and end; False when it had ended before."""
        with self._translated(number):
            return self._client.stop_job(number)

    def exit_code(self, number: str) -> int:
        """What the command of a job that has ended returned.

        Raises:
            UserError: exit code 5, it never began, or the cluster lost it.
        """
        with self._translated(number):
            while not (details := self._client.get_job_info(number)).status.is_terminal():
                time.sleep(_POLL_SECONDS)
        if details.status is JobStatus.SUCCEEDED:
            return ExitCode.DONE
        if details.status is JobStatus.STOPPED:
            return ExitCode.INTERRUPTED
        code = details.driver_exit_code
        if code is None:
            raise UserError(
                f"{self._place}: job {number} did not run: {details.message or 'no reason given'}",
                exit_code=ExitCode.ENVIRONMENT,
            )
        return int(code) if code >= 0 else 128 - int(code)

    @contextmanager
    def _translated(self, number: str | None = None) -> Iterator[None]:
        """Ray's exceptions as lines."""
        try:
            yield
        except AuthenticationError:
            raise UserError(
                f"{self._place}: the cluster does not take your token; put its token into a file, {LOCATION}=FILE"
            ) from None
        except (OSError, aiohttp.ClientError):  # requests' and aiohttp's own are among them
            raise UserError(f"{self._place}: {_UNREACHABLE}", exit_code=ExitCode.ENVIRONMENT) from None
        except RuntimeError as error:
            if number and _MISSING.search(str(error)):
                raise UserError(f"JOB: {shown(number)}: no such job; fedrevive status lists them") from None
            raise UserError(
                f"{self._place}: {ascii_text(str(error))}", exit_code=ExitCode.ENVIRONMENT
            ) from error

"""Durable files: a name either holds complete, synced content or does not exist (reliability.md §4).

Plain Parquet and torch writes lose the old file when they are killed half-way (reliability.md E6, E8); here
content is written under a temporary name that starts with a dot, synced, and renamed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from fedrevive.settings.errors import ExitCode, UserError

TEMPORARY_SUFFIX = ".tmp"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a write to a full disk, quota or file-size limit ends with."""


@contextmanager
def environment_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` about `path` into a `UserError` with exit code 5."""
    try:
        yield
    except OSError as error:
        reason = f"{path}: {error.strerror or error}"
        if error.errno in FULL:
            reason += (
                "; nothing that was saved is lost: make room, then go on with the same command or resume"
            )
        raise UserError(reason, exit_code=ExitCode.ENVIRONMENT) from error


def commit_file(path: Path, *chunks: Any) -> str:
    """Write `chunks` (bytes-like, concatenated) to `path` and return the sha256 of the content.

    After a crash at any moment `path` holds its old content, or its new content, or nothing if it was new.

    Raises:
        UserError: exit code 5, naming path and reason; nothing is left behind.
    """
    with environment_errors(path):
        temporary, digest = _write_temporary(path.parent, path.name, chunks)
        _rename(temporary, path)
    return digest


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A stream whose content takes the place of `path` when the block ends; after an exception `path` is as before.

    The file gets the permissions that the user's umask gives to new files: it is meant to be handed on.

    Raises:
        UserError: exit code 5, naming path and reason; nothing is left behind.
    """
    with environment_errors(path):
        temporary = _temporary_path(path.parent, path.name)
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _rename(temporary, path)


def commit_blob(folder: Path, suffix: str, chunks: Iterable[Any]) -> str:
    """Write `chunks` to `<folder>/<sha256><suffix>` in one pass and return the sha256.

    Raises:
        UserError: exit code 5, naming folder and reason.
    """
    with environment_errors(folder):
        temporary, digest = _write_temporary(folder, "blob", chunks)
        _rename(temporary, folder / f"{digest}{suffix}")
    return digest


def sha256_bytes(content: bytes | memoryview) -> str:
    """Hexadecimal sha256 of `content`."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """Hexadecimal sha256 of a file, read in pieces. Raises `OSError`."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_temporary(name: str) -> bool:
    """Whether `name` is one that an interrupted `commit_file` may leave behind."""
    return name.startswith(".") and name.endswith(TEMPORARY_SUFFIX)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary_path(folder: Path, name: str) -> Path:
    return folder / f".{name.lstrip('.')}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"


def _write_temporary(folder: Path, name: str, chunks: Iterable[Any]) -> tuple[Path, str]:
    temporary = _temporary_path(folder, name)
    digest = hashlib.sha256()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            for chunk in chunks:
                digest.update(chunk)
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary, digest.hexdigest()


def _rename(temporary: Path, path: Path) -> None:
    try:
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)

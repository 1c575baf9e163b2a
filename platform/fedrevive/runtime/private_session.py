"""What keeps a Ray session of ours to its user: token authentication, and a folder that nobody else may enter.

Left alone, Ray makes its folders writable for everyone on the machine and leaves its token in the home folder,
readable by others (reliability.md E14). Its ports listen on every network interface whatever address it is given, so
the token is what keeps strangers out; SECURITY.md says what it does not do.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedrevive.results.files import environment_errors
from fedrevive.runtime.leftover_sessions import PREFIX, RAY, TOKEN, hold, sweep
from fedrevive.settings.errors import ExitCode, UserError, shown

MODE, VALUE, LOCATION = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_LONGEST_SOCKET = 107
"""Bytes in the path of a Unix socket (103 on macOS, whose own temporary folder is too long in any case)."""
_BELOW = "/fedrevive-12345678/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"


def require_token_mode() -> None:
    """Raise `UserError` (exit code 2) when the environment asks Ray for anything but token authentication."""
    mode = os.environ.get(MODE, "token")
    if mode.lower() != "token":
        raise UserError(
            f"{MODE}: {shown(mode)} would let anyone who reaches this machine's ports run code on it; "
            f"unset it, or use {MODE}=token"
        )


@contextmanager
def private_session() -> Iterator[Path]:
    """A new token in the environment, for this process and those it starts.

    The folder is removed at the end. It stays, with Ray's logs, when Ray, the machine or a bug may have ended it, or
    when this process is killed; a session that starts an hour or more later removes it.

    Yields:
        Where Ray may put its files: a folder to be made, in one that only this user may enter.

    Raises:
        UserError: exit code 2, see `require_token_mode`; 5, there is no room for temporary files.
    """
    require_token_mode()
    parent = _parent()
    sweep(parent)
    with environment_errors(parent):
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        token = folder / TOKEN
        with open(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        in_use = hold(folder)
    before = {name: os.environ.pop(name, None) for name in (VALUE, LOCATION)}
    os.environ[LOCATION] = str(token)
    _forget_token()
    kept = False
    try:
        yield folder / RAY
    except Exception as error:
        kept = not isinstance(error, UserError) or error.exit_code == ExitCode.ENVIRONMENT
        raise
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        _forget_token()
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
        os.close(in_use)


def _parent() -> Path:
    """The first folder for temporary files, in Ray's own order, whose name leaves room for those of Ray's sockets."""
    for named in (os.environ.get("RAY_TMPDIR"), tempfile.gettempdir()):
        parent = named and os.path.abspath(named)
        if parent and len(os.fsencode(parent + _BELOW)) <= _LONGEST_SOCKET:
            return Path(parent)
    return Path("/tmp")


def _forget_token() -> None:
    """Ray reads the token once per process; let it look again."""
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]  # compiled

    AuthenticationTokenLoader.instance().reset_cache()

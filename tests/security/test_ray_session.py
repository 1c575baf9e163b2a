"""A Ray session of ours, looked at from outside while it runs, and what the environment may not ask of it."""

from __future__ import annotations

import http.client
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import pytest

import fedrevive.runtime  # noqa: F401  # before Ray: it sets what Ray reads when it is imported
from fedrevive.cli import preflight
from fedrevive.runtime.leftover_sessions import PREFIX
from fedrevive.runtime.private_session import LOCATION, MODE, VALUE, private_session
from fedrevive.settings.errors import ExitCode, UserError
from fedrevive.settings.loading import load

OWN = "0123456789abcdef" * 4
METHODS = (
    "NodeInfoGcsService/GetAllNodeInfo",
    "NodeManagerService/GetSystemConfig",
    "ObjectManagerService/Pull",
    "CoreWorkerService/PushTask",
)
OK, REFUSED, OTHER = "ok", "refused", "other"


class Session:
    """What a neighbour on the machine could find out about the session of this process."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.token_file = Path(os.environ[LOCATION])
        self.token = self.token_file.read_text()
        self.folder = self.token_file.parent
        self.processes = [os.getpid(), *descendants(os.getpid())]
        self.ports = sorted({port for process in self.processes for port in listening(process)})

    def answer(self, port: int, method: str, token: str | None) -> str:
        """What a call without arguments gets."""
        metadata = [("authorization", f"Bearer {token}")] if token else []
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
            try:
                channel.unary_unary(f"/ray.rpc.{method}")(b"", timeout=10, metadata=metadata)
            except grpc.RpcError as error:
                return REFUSED if error.code() is grpc.StatusCode.UNAUTHENTICATED else OTHER
        return OK


def descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *descendants(child)]
    return found


def listening(pid: int) -> Iterator[int]:
    """TCP ports that a process listens on."""
    sockets = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and f"socket:[{rest[5]}]" in sockets:
                yield int(local.rsplit(":", 1)[1], 16)


@pytest.fixture(scope="class")
def session(tmp_path_factory) -> Iterator[Session]:
    import ray

    from fedrevive.runtime.session import ray_session

    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")
        patch.setenv(VALUE, OWN)
        with ray_session(cpus=1, gpus=0, object_store_bytes=0):
            assert ray.get(ray.remote(lambda: 1).remote()) == 1
            yield Session(home)
        assert os.environ[VALUE] == OWN
        assert LOCATION not in os.environ


@pytest.mark.ray
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
class TestRunningSession:
    def test_only_its_user_reaches_the_token_and_what_ray_writes(self, session):
        assert stat.S_IMODE(session.folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(session.token_file.stat().st_mode) == 0o600
        assert session.folder.stat().st_uid == os.getuid()
        assert list((session.folder / "ray" / "session_latest" / "logs").glob("raylet*"))
        assert list(session.home.iterdir()) == []

    def test_the_token_is_new_and_in_no_command_line(self, session):
        assert len(session.token) == 64
        assert session.token != OWN
        assert len(session.processes) > 4
        lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in session.processes]
        assert [line for line in lines if session.token in line] == []

    @pytest.mark.parametrize("token", [None, OWN])
    def test_no_port_serves_a_call_without_its_token(self, session, token):
        answers = {(p, m): session.answer(p, m, token) for p in session.ports for m in METHODS}
        assert OK not in answers.values()
        assert {method for (_, method), answer in answers.items() if answer is REFUSED} == set(METHODS)

    def test_the_token_opens_them(self, session):
        assert OK in {session.answer(port, METHODS[0], session.token) for port in session.ports}

    def test_web_pages_are_metrics_or_ask_for_the_token(self, session):
        pages = {}
        for port in session.ports:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                connection.request("GET", "/api/job_agent/jobs/")
                response = connection.getresponse()
                pages[port] = (response.status, response.read(6))
            except (OSError, http.client.HTTPException):
                continue  # no web server, or not on this address
            finally:
                connection.close()
        assert {page for page in pages.values() if page[0] != 401} == {(200, b"# HELP")}


@pytest.mark.parametrize(
    "words",
    [("run", "digits"), ("compare", "digits", "--algorithms", "fedbuff,fedasync"), ("tune", "digits")],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize("mode", ["disabled", ""])
def test_a_command_refuses_ray_without_tokens_and_creates_nothing(tmp_path, words, mode):
    done = subprocess.run(
        [sys.executable, "-m", "fedrevive", *words],
        cwd=tmp_path,
        env={**os.environ, MODE: mode},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: RAY_AUTH_MODE: '{mode}' would let anyone who reaches this machine's ports run code on it; "
        "unset it, or use RAY_AUTH_MODE=token"
    ]
    assert os.listdir(tmp_path) == []


def test_the_mode_matters_only_where_ray_starts(monkeypatch):
    monkeypatch.setenv(MODE, "disabled")
    preflight.workers(load("digits", ["compute.executor=inline"]))
    with pytest.raises(UserError), private_session():
        pass
    monkeypatch.setenv(MODE, "Token")
    preflight.workers(load("digits", []))


def test_the_folder_goes_with_the_session(monkeypatch):
    monkeypatch.setenv(MODE, "token")
    with private_session() as folder:
        assert folder.parent.exists()
    assert not folder.parent.exists()


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (ValueError("a bug"), True),
        (UserError("an actor died", exit_code=ExitCode.ENVIRONMENT), True),
        (UserError("diverged", exit_code=ExitCode.POLICY), False),
        (KeyboardInterrupt(), False),
    ],
    ids=repr,
)
def test_logs_stay_where_they_may_tell_why(monkeypatch, error, kept):
    monkeypatch.setenv(MODE, "token")
    stack = ExitStack()
    folder = stack.enter_context(private_session())
    folder.mkdir()
    assert stack.__exit__(type(error), error, None) is False
    assert folder.exists() is kept
    shutil.rmtree(folder.parent, ignore_errors=True)


def test_ray_uses_the_user_s_token_again_afterwards(monkeypatch):
    from ray._raylet import AuthenticationTokenLoader

    ray_s = AuthenticationTokenLoader.instance()
    monkeypatch.setenv(MODE, "token")
    monkeypatch.setenv(VALUE, OWN)
    seen = []
    for _ in range(2):
        with private_session():
            seen.append(ray_s.get_raw_token(ignore_auth_mode=True))
            assert seen[-1] == Path(os.environ[LOCATION]).read_text()
        assert ray_s.get_raw_token(ignore_auth_mode=True) == OWN
        assert LOCATION not in os.environ
    assert len({OWN, *seen}) == 3


@pytest.mark.parametrize(("letters", "used"), [(7, True), (8, False)])
def test_a_temporary_folder_too_deep_for_sockets_is_passed_over(monkeypatch, letters, used):
    monkeypatch.setenv(MODE, "token")
    monkeypatch.setattr("tempfile.tempdir", "/tmp/" + "e" * 100)
    with TemporaryDirectory(dir="/tmp", prefix="") as short:  # 13 letters
        wanted = Path(short + "d" * letters)
        monkeypatch.setenv("RAY_TMPDIR", str(wanted))
        wanted.mkdir()
        try:
            with private_session() as folder:
                assert folder.parent.name.startswith(PREFIX)
                assert folder.parents[1] == (wanted if used else Path("/tmp"))
                deepest = folder / "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
                assert len(str(deepest)) <= 107
        finally:
            wanted.rmdir()

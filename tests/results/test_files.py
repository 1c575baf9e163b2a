"""Durable files: all or nothing, private, and one line when the disk refuses."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys

import pytest

from fedrevive.results.files import commit_blob, commit_file, sha256_file
from fedrevive.settings.errors import UserError


def test_content_mode_and_digest(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    digest = commit_file(path, b"new ", memoryview(b"content"))
    assert path.read_bytes() == b"new content"
    assert digest == hashlib.sha256(b"new content").hexdigest() == sha256_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["a.json"]


def test_blob_is_named_by_its_content(tmp_path):
    digest = commit_blob(tmp_path, ".bin", iter([b"a", b"b"]))
    assert (tmp_path / f"{digest}.bin").read_bytes() == b"ab"


@pytest.mark.parametrize("name", ["absent/a.json", "file/a.json", "folder"])
def test_refusal_names_path_and_reason_and_leaves_nothing(tmp_path, name):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=name.split("/")[0]) as caught:
        commit_file(tmp_path / name, b"x")
    assert caught.value.exit_code == 5
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    commit_file(path, b"old")
    code = (
        "import resource, signal, sys; from pathlib import Path; from fedrevive.results.files import commit_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: commit_file(Path(sys.argv[1]), bytes(5000))\n"
        "except Exception as error: print(int(error.exit_code), error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("5 ")
    assert "File too large" in done.stdout
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]

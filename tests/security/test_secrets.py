"""No file of the repository holds a key or a token."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECRETS = {
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "AWS key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "AWS secret": r"(?i)aws_secret_access_key\s*[=:]\s*['\"]?[A-Za-z0-9/+]{40}",
    "GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60})",
    "GitLab token": r"\bglpat-[A-Za-z0-9_-]{20}",
    "PyPI token": r"\bpypi-AgEI[A-Za-z0-9_-]{40}",
    "Hugging Face token": r"\bhf_[A-Za-z]{34}\b",
    "Google key": r"\bAIza[A-Za-z0-9_-]{35}\b",
    "Slack token": r"\bxox[abeoprs]-[A-Za-z0-9-]{20}",
    "model provider's key": r"\bsk-[A-Za-z0-9_-]{32}",
    "web token": r"\beyJ[A-Za-z0-9_-]{16,}\.eyJ[A-Za-z0-9_-]{16,}\.",
    "Ray token": r"(?i)ray_auth_token\s*[=:]\s*['\"]?[0-9a-f]{32}",
    "password in an address": r"\b[a-z][a-z0-9+.-]*://[^/\s:@'\"{}<>$]+:[^/\s:@'\"{}<>$]+@",
}
PLANTED = {
    "private key": "-----BEGIN OPENSSH " + "PRIVATE KEY-----",
    "AWS key": "AKIA" + "Q" * 16,
    "AWS secret": "aws_secret_access_key = " + "a" * 40,
    "GitHub token": "ghp_" + "a1" * 18,
    "GitLab token": "glpat-" + "a" * 20,
    "PyPI token": "pypi-" + "AgEI" + "c" * 40,
    "Hugging Face token": "hf_" + "b" * 34,
    "Google key": "AIza" + "x" * 35,
    "Slack token": "xoxb-" + "1" * 24,
    "model provider's key": "sk-" + "e" * 40,
    "web token": "eyJ" + "a" * 20 + ".eyJ" + "b" * 20 + ".c",
    "Ray token": "RAY_AUTH_TOKEN=" + "0f" * 32,
    "password in an address": "https://user:" + "secret" + "@example.org/",
}


def secrets_in(text: str) -> list[str]:
    return [kind for kind, pattern in SECRETS.items() if re.search(pattern, text)]


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_no_tracked_file_holds_a_secret():
    files = [path for path in tracked_files() if path.is_file()]
    assert len(files) > 100
    found = {str(path): kinds for path in files if (kinds := secrets_in(path.read_text(errors="replace")))}
    assert found == {}


def test_no_key_file_is_tracked():
    names = re.compile(
        r"(?:^|/)(?:\.env|\.netrc|\.pypirc|id_(?:rsa|ed25519|ecdsa)|auth_token)$|\.(?:pem|key|p12|pfx)$"
    )
    assert [str(path) for path in tracked_files() if names.search(path.as_posix())] == []


@pytest.mark.parametrize("kind", SECRETS)
def test_a_planted_secret_is_found(kind):
    assert kind in secrets_in(f"before {PLANTED[kind]} after")

"""The README says what is true: its commands run, its columns are the schemas', its links lead somewhere."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fedrevive.results.schemas import TABLES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("fedrevive")
]
SHORT = {
    "run": ["stop.arrivals=3", "--executor", "inline"],
    "compare": ["stop.arrivals=3", "--executor", "inline", "--seeds", "0"],
    "plan": ["stop.virtual_time=3"],
    "config": [],
}


@pytest.mark.parametrize("command", [c for c in COMMANDS if " resume " not in c])
def test_commands_run(command, tmp_path):
    _, verb, *words = shlex.split(command)
    short = ["stop.arrivals=3"] if "--chaos" in words else SHORT[verb]
    done = subprocess.run(
        [sys.executable, "-m", "fedrevive", verb, *words, *short],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_command_is_described():
    done = subprocess.run(
        [sys.executable, "-m", "fedrevive", "--help"], capture_output=True, text=True, check=True
    )
    commands = re.findall(r"^  ([a-z]+)  ", done.stdout.split("Commands:")[1], re.MULTILINE)
    assert commands
    for name in commands:
        assert f"| `{name}" in README


@pytest.mark.parametrize("table", TABLES)
def test_columns_are_the_schemas(table):
    for field in TABLES[table]:
        unit, description = field.metadata[b"unit"].decode(), field.metadata[b"description"].decode()
        assert f"| `{field.name}` | {unit} | {description} |" in README


def test_links_lead_to_files():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).is_file(), target

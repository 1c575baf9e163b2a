"""The real command: one line on standard error, the documented exit code, nothing heavy imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedrevive import __version__
from fedrevive.cli import app as cli
from fedrevive.settings.errors import LINE_LIMIT, ExitCode
from fedrevive.settings.loading import load

HEAVY = ("torch", "ray", "sklearn", "pyarrow", "pandas", "numpy", "scipy", "matplotlib")


def fedrevive(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fedrevive", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["config", "digits", "server.concurency=3"],
            "error: server.concurency: unknown field; did you mean",
        ),
        (["config", "digits", "server.lr=1_000"], "error: server.lr: '1_000' has an underscore"),
        (
            ["config", "digts"],
            "error: 'digts': no such preset (a file has a slash or ends in .yaml); did you mean",
        ),
        (["config", "nowhere.yaml"], "error: 'nowhere.yaml': no such file"),
        (["config", "--hulp"], "error: no such option: --hulp (Possible options: --help)"),
        (["--versoin"], "error: no such option: --versoin (Possible options: --version)"),
        (["confg"], "error: no such command 'confg'. Did you mean 'config'?"),
        (["config"], "error: no experiment: name a preset (cifar10, cifar100, demo, digits,"),
        (["config", "seed=1"], "error: stop: no stop condition"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, expected, tmp_path):
    paths = os.pathsep.join(str(Path(p).resolve()) for p in sys.path if p)
    done = fedrevive(*arguments, cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths})
    assert done.returncode == ExitCode.USER
    assert done.stdout == ""
    assert done.stderr.startswith(expected)
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) <= LINE_LIMIT + 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [["--help"], ["config", "--help"], ["--nope"], ["config", "digits", "seed=-1"]]
)
def test_help_and_mistakes_import_nothing_heavy(arguments):
    program = (
        "import sys; from fedrevive.cli.app import run_app; code = run_app(sys.argv[1:]); "
        f"print(code, *sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr.splitlines()[-1] == ("0" if "--help" in arguments else "2")


def test_the_printed_configuration_loads_back(tmp_path):
    file = tmp_path / "cfg.yaml"
    file.write_text(fedrevive("config", "digits", "seed=4", "algorithm.name=fedbuff").stdout)
    assert load(str(file)) == load("digits", ["algorithm.name=fedbuff", "seed=4"])
    assert fedrevive("config", str(file)).stdout == file.read_text()


def test_version_and_help_answer():
    assert fedrevive("--version").stdout == f"fedrevive {__version__}\n"
    assert "config" in fedrevive("--help").stdout
    assert fedrevive().stdout == fedrevive("--help").stdout


def test_our_own_bug_is_one_line_with_a_file(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(
        "fedrevive.settings.loading.PRESETS", None
    )  # breaks every command that names a preset
    assert cli.run_app(["config", "digits"]) == ExitCode.BUG
    (line,) = capsys.readouterr().err.splitlines()
    (details,) = tmp_path.iterdir()
    assert line.startswith("internal error: AttributeError: ")
    assert line.endswith(f"; details in {details}")
    assert len(line) <= LINE_LIMIT
    assert "Traceback (most recent call last)" in details.read_text()


def test_a_reader_that_goes_away_is_no_error():
    command = [sys.executable, "-m", "fedrevive", "config", "digits"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == ExitCode.BROKEN_PIPE


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_the_environments_fault():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "fedrevive", "config", "digits"]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode == ExitCode.ENVIRONMENT
    assert done.stderr.startswith("error: disk full: ")
    assert done.stderr.count("\n") == 1

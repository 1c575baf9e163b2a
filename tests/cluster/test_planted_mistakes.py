"""Mistakes planted in rendered files: each is named in one line that says where and what to do."""

import re

import pytest
from cluster_files import rendered
from mistakes import MISTAKES, TOKEN, Planted

from fedrevive.cli.app import run_app
from fedrevive.settings.errors import LINE_LIMIT
from fedrevive_clusters.validation import check_file


def planted(mistake: Planted) -> str:
    right = rendered(mistake.variant)
    wrong, places = re.subn(mistake.right, mistake.wrong, right, count=1)
    assert (places, wrong != right) == (1, True)
    return wrong


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_named(name, tmp_path):
    file = tmp_path / "file"
    file.write_text(planted(MISTAKES[name]))
    lines = [re.sub(r"^line \d+", "line N", line) for line in check_file(file)[1]]
    assert any(line.startswith(MISTAKES[name].line) for line in lines), lines
    assert len(lines) <= 4  # an image or a volume may stand in several groups


def test_a_line_is_counted_as_editors_do(tmp_path):
    text = planted(MISTAKES["a token"])
    (tmp_path / "file").write_text(text)
    (line,) = (line for line in check_file(tmp_path / "file")[1] if "token stands" in line)
    number = int(re.match(r"line (\d+)", line)[1])
    assert TOKEN in text.splitlines()[number - 1]


def test_the_command_prints_one_line_each_and_ends_with_2(tmp_path, capsys):
    file = tmp_path / "wrong.sbatch"
    file.write_text(planted(MISTAKES["no time limit"]).replace("--nodes=3", "--nodes=3\n#SBATCH --bell"))
    assert run_app(["cluster", "validate", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: #SBATCH --time: missing")
    assert line.endswith(f"({file})")
    assert len(line) <= LINE_LIMIT
    assert run_app(["cluster", "validate", str(file), "--json"]) == 2
    assert '"kind": "Slurm batch script"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "No such file or directory"),
        (b"\xff\xfe", "not a text in UTF-8"),
        (b"a: [", "not YAML: .* in line 1"),
        (b"a: 1", "no launch file known here"),
        (b"- 1", "no launch file known here"),
        (b"", "no launch file known here"),
        (b"#!/bin/sh\necho", "no launch file known here"),
        (b"a" * (1 << 20) + b"b", "1048577 bytes are more than a launch file has"),
        (b"apiVersion: ray.io/v1\nkind: RayJob\nspec: 3", "metadata: missing"),
        (b"apiVersion: ray.io/v1\nkind: RayJob\nmetadata: {name: a}\nspec: {rayClusterSpec: 3}", "is not a mapping"),
        (b"cluster_name: a\nprovider: 3", "provider: 3 is not a mapping"),
    ],
)  # fmt: skip
def test_what_is_no_launch_file_is_one_line(content, line, tmp_path, capsys):
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)
    assert run_app(["cluster", "validate", str(file)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert re.search(line, "\n".join(errors))
    assert all(error.startswith("error: ") for error in errors)

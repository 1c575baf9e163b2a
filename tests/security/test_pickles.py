"""Nothing that is read back is code: the lint rules say so, and so does an interpreter that watches a whole life."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = "S102,S301,S302,S307,S506,TID251"
UNSAFE = {
    "import pickle\n": "TID251",
    "from pickle import loads\n": "TID251",
    "import cloudpickle\n": "TID251",
    "import joblib\n": "TID251",
    "import torch\ntorch.load('a')\n": "TID251",
    "from torch import load\nload('a')\n": "TID251",
    "import numpy as np\nnp.load('a', allow_pickle=True)\n": "TID251",
    "import pandas as pd\npd.read_pickle('a')\n": "TID251",
    "import ray.data\n": "TID251",
    "import yaml\nyaml.load('a', Loader=yaml.UnsafeLoader)\n": "S506",
    "eval('1')\n": "S307",
    "exec('1')\n": "S102",
}
WATCHED = """
import pathlib, pickle, sys
found, renamed = [], []

def watch(event, arguments):
    if event == "pickle.find_class":
        found.append(arguments)
    elif event == "os.rename" and "snapshots" in pathlib.Path(arguments[1]).parts:
        renamed.append(arguments)
        if len(renamed) == 2:
            raise KeyboardInterrupt  # after the first snapshot

sys.addaudithook(watch)
from fedrevive.cli.app import run_app

small = sys.argv[1:]
for code, words in [
    (130, ["run", "digits", *small, "snapshots.every_arrivals=2", "output=out"]),
    (0, ["resume", "out"]),
    (0, ["compare", "digits", *small, "--algorithms", "fedbuff,fedasync", "--output", "compared"]),
    (0, ["fsck", "out"]),
    (0, ["fsck", "compared"]),
    (0, ["export", "compared", "--table", "arrivals", "-o", "rows.parquet"]),
]:
    returned = run_app(words)
    assert returned == code, (words, returned)
print("pickles looked up", found)
pickle.loads(pickle.dumps(pathlib.Path("a")))
assert found, "the watch does not see a pickle"
"""
SMALL = ["task.clients=24", "server.concurrency=6", "client.local_steps=1", "stop.arrivals=8", "model.width=4",
         "evaluation.every_arrivals=4", "--executor", "inline"]  # fmt: skip


def lint(*words: str, source: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise", *words]
    return subprocess.run(command, cwd=ROOT, input=source, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("source", "rule"), UNSAFE.items())
def test_the_lint_refuses(source, rule):
    done = lint("--stdin-filename", "platform/fedrevive/sample.py", "-", source=source)
    assert done.returncode == 1
    assert rule in done.stdout


def test_the_product_has_no_exception_from_these_rules():
    done = lint("--ignore-noqa", "--select", RULES, "platform", "tuning", "clusters")
    assert done.returncode == 0, done.stdout


def test_a_run_its_resumption_and_its_readers_unpickle_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *SMALL],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "pickles looked up []\n" in done.stdout

"""The rendered script for several nodes on one machine, run as it is."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cluster_files import rendered
from ray_processes import descendants, nothing_left
from real_clusters import SMALL, free_port, inline_hashes

from fedrevive.results.manifest import read_manifest

SEARCH = (
    "experiment: digits\n"
    f"overrides: {{{', '.join(word.replace('=', ': ') for word in SMALL)}, stop.arrivals: 20}}\n"
    "search: {searcher: grid, seeds: [0], fork: 'off', space: {server.lr: {grid: [0.1]}}}\n"
)


@pytest.mark.slow
@pytest.mark.ray
def test_two_nodes_check_themselves_search_and_go(tmp_path):
    search = tmp_path / "s.yaml"
    search.write_text(SEARCH)
    script = tmp_path / "local.sh"
    script.write_text(rendered("local", "--search", str(search), "--storage", str(tmp_path / "results")))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    before = set(Path("/tmp").glob("fedrevive-nodes.*"))
    running = subprocess.Popen(
        ["bash", str(script)],
        cwd=tmp_path,
        env={**environment, "PATH": programs, "PORT": str(free_port())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "results").exists() and running.poll() is None:
        time.sleep(0.1)
    assert len([words for words in descendants(running.pid).values() if "raylet_socket_name" in words]) >= 2
    with nothing_left(running.pid):
        out, err = running.communicate(timeout=200)
    assert running.returncode == 0, out + err
    assert "2 nodes" in out
    runs = list(tmp_path.glob("results/tune-s/runs/*"))
    assert len(runs) == 1
    assert read_manifest(runs[0])["hashes"] == inline_hashes(runs[0], tmp_path / "inline")
    assert set(Path("/tmp").glob("fedrevive-nodes.*")) == before

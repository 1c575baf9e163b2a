"""Rendered launch files: what was asked for is in them, they have no mistakes, and impossible wishes are one line."""

import re
from pathlib import Path

import pytest
import yaml
from cluster_files import VARIANTS, rendered

from fedrevive.cli.app import run_app
from fedrevive_clusters.launch_plan import RAY_VERSION
from fedrevive_clusters.machine_types import MACHINE_TYPES, smallest
from fedrevive_clusters.validation import check_file

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_rendered_file_has_no_mistake_and_no_gap(variant, tmp_path):
    file = tmp_path / "file"
    file.write_text(rendered(variant))
    assert check_file(file)[1] == []
    assert "@{" not in file.read_text()


def test_the_pinned_ray_is_the_locked_one():
    assert f"\nray=={RAY_VERSION}\n" in (ROOT / "constraints.txt").read_text()


def test_numbers_arrive(tmp_path):
    text = rendered(
        "slurm", "--nodes", "7", "--cpus-per-node", "24", "--gpus-per-node", "2", "--storage", "/data/x"
    )
    for part in (
        "--nodes=7",
        "--cpus-per-task=24",
        "--gpus-per-node=2",
        "--num-cpus=24",
        "--num-gpus=2",
        "/data/x/",
    ):
        assert part in text
    cluster = yaml.safe_load(rendered("kuberay-job", "--nodes", "7", "--gpus-per-node", "2"))["spec"][
        "rayClusterSpec"
    ]
    (workers,) = cluster["workerGroupSpecs"]
    head, worker = (
        group["template"]["spec"]["containers"][0]["resources"]["limits"]
        for group in (cluster["headGroupSpec"], workers)
    )
    assert (workers["replicas"], head["nvidia.com/gpu"]) == (6, "2")
    assert "nvidia.com/gpu" not in worker
    assert yaml.safe_load(rendered("onprem"))["provider"]["worker_ips"] == ["10.0.0.2", "node-3.example.org"]
    types = yaml.safe_load(rendered("aws"))["available_node_types"]
    assert [node["node_config"]["InstanceType"] for node in types.values()] == ["g6.8xlarge", "c7i.8xlarge"]


def test_a_file_is_written_and_named_in_its_comments(tmp_path):
    file = tmp_path / "mine.yaml"
    assert run_app(["cluster", "render", "aws", "-o", str(file)]) == 0
    assert "ray up --yes mine.yaml" in file.read_text()


@pytest.mark.parametrize("target", MACHINE_TYPES)
def test_the_smallest_machine_that_fits(target):
    for machine in MACHINE_TYPES[target]:
        assert smallest(target, machine.cpus, machine.gpus) == machine.name


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["slrum"], r"TARGET: 'slrum' is not allowed; must be one of .*; did you mean 'slurm'\?"),
        (["slurm", "--nodes", "0"], r"--nodes.*'0' is not an integer >= 1"),
        (
            ["slurm", "--storage", "nfs://a/b"],
            r"--storage: 'nfs://a/b' is nothing that slurm can use; give /shared",
        ),
        (["slurm", "--storage", "/a b"], r"--storage: '/a b' is nothing that slurm can use"),
        (
            ["kuberay", "--storage", "/a"],
            r"--storage: '/a' is nothing that kuberay can use; give pvc://claim or nfs://",
        ),
        (["slurm", "--search", "digts"], r"--search: 'digts': no such search .*; did you mean 'digits'\?"),
        (["slurm", "--search", "./$(id).yaml"], r"--search: .* has characters that a shell may change"),
        (
            ["kuberay", "--search", "./mine.yaml"],
            r"--search: './mine.yaml' is a file, which the pods do not have",
        ),
        (["kuberay", "--image", "ray"], r"--image: 'ray' is no image with a tag, such as"),
        (["gcp", "--project", "a b"], r"--project: 'a b' is no project id, such as"),
        (["kuberay", "--kind", "pod"], r"--kind: 'pod' is not allowed; must be one of job, cluster"),
        (["onprem", "--head-ip", "a b"], r"--head-ip, --worker-ips: 'a b' is no address or host name"),
        (["onprem", "--worker-ips", "192.0.2.1"], r"--head-ip, --worker-ips: an address stands there twice"),
        (
            ["aws", "--gpus-per-node", "9"],
            r"--cpus-per-node, --gpus-per-node: no aws machine known here has 8 CPUs and 9",
        ),
    ],
)
def test_an_impossible_wish_is_one_line(words, line, capsys):
    assert run_app(["cluster", "render", *words]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert re.match(f"error: .*{line}", error)

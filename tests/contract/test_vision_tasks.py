"""The vision tasks and the traces, end to end on small files: the same bits inline and on Ray, and after a resume."""

import sys
from pathlib import Path

import pytest
from contract_runs import hashes, inline_executor, on_ray

from fedrevive.settings.loading import load

sys.path.insert(0, str(Path(__file__).parents[1] / "tasks"))

from vision_files import write_cifar100, write_femnist_leaf, write_femnist_parquet, write_mnist_writers

TINY = ["task.clients=8", "server.concurrency=4", "client.local_steps=2", "client.batch_size=8", "stop.arrivals=14",
        "stop.virtual_time=null", "evaluation.every_arrivals=7", "algorithm.teacher_capacity=2",
        "algorithm.synthesis_batch=8", "algorithm.distill_batch=8", "algorithm.generator_width=4",
        "algorithm.latent_size=8", "algorithm.freeze_versions=2", "algorithm.warmup_versions=4",
        "algorithm.generate_every_versions=3"]  # fmt: skip
TASKS = {
    "cifar100": (write_cifar100, ["model.name=cnn", "model.width=4"]),
    "femnist": (write_femnist_leaf, []),
    "femnist-parquet": (write_femnist_parquet, ["model.norm=group"]),
    "mnist_writers": (write_mnist_writers, ["model.norm=batch"]),
}
WINDOWS = "device,step_seconds,available_from_seconds,available_until_seconds,period_seconds\n" + "".join(
    f"{device},{0.1 + 0.05 * device},{start},{start + 2},12\n{device},0.2,{start + 4},{start + 5},12\n"
    for device, start in enumerate([0, 1, 3, 6, 7])
)
TRACED = ["task.clients=12", "task.samples_per_client=20", "server.concurrency=6", "client.local_steps=3",
          "client.batch_size=8", "stop.arrivals=40", "evaluation.every_arrivals=7", "delays.kind=trace"]  # fmt: skip


def tiny(name, root, monkeypatch, algorithm):
    write, own = TASKS[name]
    write(root, monkeypatch) if write is write_cifar100 else write(root)
    words = [w for w in TINY if algorithm == "fedrevive" or not w.startswith("algorithm.")]
    return load(
        name.partition("-")[0], [*words, *own, f"algorithm.name={algorithm}", f"task.data_dir={root}"]
    )


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("algorithm", ["fedrevive", "fedbuff"])
@pytest.mark.parametrize("name", TASKS)
def test_each_task_runs_end_to_end_with_the_same_bits(name, algorithm, cluster, tmp_path, monkeypatch):
    config = tiny(name, tmp_path, monkeypatch, algorithm)
    expected = hashes(config, inline_executor(config), tmp_path / "inline")
    assert hashes(config, on_ray(cluster[2], config), tmp_path / "ray") == expected


def traced(folder, algorithm, *more):
    (folder / "trace.csv").write_text(WINDOWS)
    own = ["algorithm.warmup_versions=4"] if algorithm == "fedrevive" else []
    return load(
        "digits", [*TRACED, f"delays.path={folder / 'trace.csv'}", f"algorithm.name={algorithm}", *own, *more]
    )


@pytest.mark.parametrize("algorithm", ["fedrevive", "fedavg"])
@pytest.mark.parametrize("faults", [[], ["faults.timeout=3", "faults.crash.jobs=0.2", "faults.nan.jobs=0.1"]])
def test_a_traced_run_resumes_where_it_was(algorithm, faults, tmp_path):
    config = traced(tmp_path, algorithm, *faults)
    expected = hashes(config, inline_executor(config), tmp_path / "whole")
    arrivals = iter(range(10_000))
    pieces = None
    for _ in range(60):
        pieces = hashes(
            config, inline_executor(config), tmp_path / "pieces", interrupted=lambda: next(arrivals) % 7 == 6
        )
        if pieces is not None:
            break
    assert pieces == expected
    assert next(arrivals) > 30


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("algorithm", ["fedrevive", "fedavg"])
def test_a_traced_run_has_the_same_bits_on_ray(algorithm, cluster, tmp_path):
    config = traced(tmp_path, algorithm)
    expected = hashes(config, inline_executor(config), tmp_path / "inline")
    assert hashes(config, on_ray(cluster[2], config), tmp_path / "ray") == expected

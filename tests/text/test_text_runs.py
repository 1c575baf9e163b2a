"""Whole runs on texts: every start and control, the same bits in pieces and on Ray, and what does not go together."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import pytest
from safetensors.torch import load_file

import fedrevive.runtime  # noqa: F401 (before Ray is imported)
from fedrevive.assemble import client_trainer, server
from fedrevive.core.process import configure_process
from fedrevive.experiment import run_experiment
from fedrevive.results.reading import read_table
from fedrevive.results.store import RunStore
from fedrevive.runtime.lane import Lane
from fedrevive.runtime.ray_executor import RayExecutor
from fedrevive.runtime.session import ray_session
from fedrevive.settings.errors import UserError
from fedrevive.settings.loading import load
from fedrevive.simulation.executor import InlineExecutor
from fedrevive.simulation.planning import schedule, server_flops
from fedrevive.simulation.server_work import forward_work
from fedrevive.tasks import load_task

STARTS = ["algorithm.text_start=random", "algorithm.text_start=vocabulary", "algorithm.text_start=snippets"]
VARIANTS = {
    **{start.partition("=")[2]: [start] for start in STARTS},
    "noise": ["algorithm.pool=noise"],
    "oracle": ["algorithm.pool=real", "algorithm.proportions=oracle", "algorithm.diagnostics=true"],
    "random-teachers": ["algorithm.teachers=random_weights"],
    "dd_fedrevive": [
        "algorithm.name=dd_fedrevive",
        "algorithm.warmup_versions=4",
        "algorithm.teacher_capacity=2",
        "algorithm.distill_steps=2",
        "algorithm.distill_batch=4",
    ],
    "fedbuff": ["algorithm.name=fedbuff"],
}


def inline(config):
    configure_process()
    data = load_task(config.task, config.seed)
    return InlineExecutor(server(config, data), client_trainer(config, data))


def finished(config, folder, executor=None, interrupted=lambda: False):
    """Hashes of the run, None when interrupted."""
    with RunStore.open(folder, manifest={"run_id": "0", "config": config.model_dump(mode="json")}) as store:
        for _ in run_experiment(config, store, executor or inline(config), interrupted=interrupted):
            pass
        return store.manifest["hashes"] if store.finished else None


QUICK = ("vocabulary", "snippets")


@pytest.mark.parametrize(
    "variant", [v if v in QUICK else pytest.param(v, marks=pytest.mark.slow) for v in VARIANTS]
)
def test_a_run_in_pieces_equals_the_whole(variant, tiny, tmp_path):
    config = tiny(*VARIANTS[variant])
    expected = finished(config, tmp_path / "whole")
    found, arrivals = None, iter(range(10_000))
    while found is None:
        found = finished(config, tmp_path / "pieces", interrupted=lambda: next(arrivals) % 9 == 8)
    assert found == expected
    rows = read_table(tmp_path / "whole", "arrivals").to_pylist()
    assert len(rows) == config.stop.arrivals
    assert all(math.isfinite(row["train_loss"]) for row in rows)
    if variant in ("random", "vocabulary", "snippets"):
        assert sum(row["synthesis_loss"] is not None for row in rows) >= 5
        assert sum(row["distill_loss"] is not None for row in rows) >= 10


def test_starts_differ_in_nothing_but_the_pool(tiny, tmp_path):
    tables = []
    for start in STARTS:
        config = tiny(start)
        finished(config, tmp_path / start)
        tables.append(read_table(tmp_path / start, "arrivals").to_pylist())
    for first, *others in zip(*tables, strict=True):
        for row in others:
            assert (row["job"], row["staleness"], row["server_flops"]) == (
                first["job"],
                first["staleness"],
                first["server_flops"],
            )
    losses = [next(row["synthesis_loss"] for row in rows if row["synthesis_loss"]) for rows in tables]
    assert len(set(losses)) == 3


def test_the_planned_cost_is_the_cost(tiny, tmp_path):
    config = tiny()
    finished(config, tmp_path / "run")
    spent = read_table(tmp_path / "run", "arrivals").column("server_flops").to_pylist()
    assert sum(spent) == pytest.approx(sum(server_flops(config, schedule(config), *forward_work(config))))


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[int, Lane]]:
    with ray_session(cpus=4, gpus=0, object_store_bytes=0):
        yield {workers: Lane(workers, gpu=0) for workers in (1, 2)}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("variant", ["random", "vocabulary", "snippets", "fedbuff"])
def test_the_same_bits_on_ray(variant, tiny, tmp_path, cluster):
    import ray

    config = tiny(*VARIANTS[variant])
    expected = finished(config, tmp_path / "inline")
    for workers, lane in cluster.items():
        data = ray.put(load_task(config.task, config.seed))
        found = finished(config, tmp_path / f"ray{workers}", RayExecutor(lane, config, data))
        assert found == expected


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["client.augmentation=crop_flip"], "client.augmentation: crop_flip is for images"),
        (["algorithm.augmentation=crop_flip"], "algorithm.augmentation: crop_flip is for images"),
        (["algorithm.distill_augmentation=crop_flip"], "algorithm.distill_augmentation: crop_flip is for"),
        (["model.name=cnn"], "model.name: cnn does not fit task.name=newsgroups; use text_transformer or"),
        (["algorithm.generator_file=x.safetensors"], "algorithm.generator_file: a generator of images"),
        (["model.name=t5_encoder"], "model.folder: missing"),
        (["model.width=12"], "model.width: 12 is not allowed; must be a multiple of 8"),
    ],
)
def test_what_does_not_fit_texts_is_one_line(overrides, line):
    with pytest.raises(UserError) as raised:
        load("newsgroups", overrides)
    assert str(raised.value).startswith(line)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["model.name=text_transformer"],
            "model.name: text_transformer does not fit task.name=digits; use a",
        ),
        (["algorithm.text_start=snippets"], "algorithm.text_start: snippets does not fit task.name=digits"),
    ],
)
def test_what_does_not_fit_images_is_one_line(overrides, line):
    with pytest.raises(UserError) as raised:
        load("digits", overrides)
    assert str(raised.value).startswith(line)


def test_more_prompts_than_tokens_are_one_line(tiny):
    with pytest.raises(UserError, match=r"algorithm.prompt_vectors: 12 leave no place in texts of 12 tokens"):
        tiny("algorithm.prompt_vectors=12")


@pytest.mark.slow
def test_a_pretrained_encoder_trains_end_to_end(tiny, tmp_path):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "t5"
    config = transformers.T5Config(vocab_size=150, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    transformers.T5EncoderModel(config).save_pretrained(folder)
    experiment = tiny("model.name=t5_encoder", f"model.folder={folder}")
    expected = finished(experiment, tmp_path / "whole")
    assert expected == finished(experiment, tmp_path / "again")
    rows = read_table(tmp_path / "whole", "arrivals").to_pylist()
    assert sum(row["distill_loss"] is not None for row in rows) >= 10
    tensors = load_file(tmp_path / "whole" / "model.safetensors")
    assert "head.weight" in tensors
    assert not [name for name in tensors if "embed" in name]


def test_the_next_letter_of_people_trains_end_to_end(tiny, tmp_path):
    line = "to be or not to be that is the question " * 3
    people = {f"person{number}": line[number:] for number in range(8)}
    data = {
        name: {"x": [text[at : at + 8] for at in range(60)], "y": [text[at + 8] for at in range(60)]}
        for name, text in people.items()
    }
    content = {"users": list(data), "num_samples": [60] * len(data), "user_data": data}
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "all_data.json").write_text(json.dumps(content))
    config = tiny(
        "task.name=next_token",
        f"task.data_dir={tmp_path}",
        "task.partition.kind=natural",
        "task.length=8",
        "task.vocabulary=32",
        "task.clients=8",
    )
    assert finished(config, tmp_path / "run") is not None
    rows = read_table(tmp_path / "run", "arrivals").to_pylist()
    assert sum(row["distill_loss"] is not None for row in rows) >= 10
    measured = read_table(tmp_path / "run", "evaluations").to_pylist()
    assert measured[-1]["test_loss"] < measured[0]["test_loss"]

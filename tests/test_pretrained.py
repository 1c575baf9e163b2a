"""A generator that was trained elsewhere: its file, what rounds leave of it, and what it costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from fedrevive.algorithms import build_algorithm
from fedrevive.assemble import client_trainer, server, server_context
from fedrevive.core.flops import ArrivalWork, arrival_flops, generator_flops
from fedrevive.core.generator import ImageGenerator, build_generator
from fedrevive.core.loss_guard import LossGuard
from fedrevive.core.sample_generator import pretrained_images
from fedrevive.core.synthesis import SynthesisSetup, synthesise
from fedrevive.core.teachers import Ensemble
from fedrevive.experiment import run_experiment
from fedrevive.pretrained import generator_weights, require_files
from fedrevive.results.reading import read_table
from fedrevive.results.store import RunStore
from fedrevive.settings.errors import UserError
from fedrevive.settings.loading import load
from fedrevive.simulation.executor import InlineExecutor
from fedrevive.tasks import load_task

CPU = torch.device("cpu")
SMALL = ["task.clients=12", "task.samples_per_client=10", "server.concurrency=4", "client.local_steps=2",
         "client.batch_size=4", "stop.arrivals=20", "model.width=4", "algorithm.latent_size=8",
         "algorithm.generator_width=4", "algorithm.freeze_versions=2", "algorithm.warmup_versions=4",
         "algorithm.generate_every_versions=3", "algorithm.synthesis_batch=6", "algorithm.distill_batch=4",
         "algorithm.distill_steps=2", "algorithm.probe_samples=8"]  # fmt: skip


@pytest.fixture
def file(tmp_path):
    torch.manual_seed(3)
    weights = ImageGenerator(8, 4, (1, 8, 8)).state_dict()
    save_file(weights, tmp_path / "generator.safetensors")
    return tmp_path / "generator.safetensors"


def config_of(file, *more):
    return load("digits", [*SMALL, f"algorithm.generator_file={file}", *more])


def test_rounds_adapt_the_latents_alone(file):
    config = config_of(file, "algorithm.latent_lr=0.5", "algorithm.synthesis_steps=3")
    settings, weights = config.algorithm, load_file(file)
    generator = pretrained_images(settings, (1, 8, 8), weights, CPU)
    before = generator.theta.vector.clone()
    context = server_context(config, CPU, None)
    teacher = context.new_model()
    teacher.module.eval().requires_grad_(False)
    proportions = torch.full((1, 10), 0.1)
    setup = SynthesisSetup(settings, generator, lambda images, _: images)
    random = torch.Generator().manual_seed(1)
    done = synthesise(setup, None, Ensemble([teacher], proportions), None, LossGuard({}), random)
    assert done.generator is None
    assert torch.equal(generator.theta.vector, before)
    for name, value in generator.theta.state_dict().items():
        torch.testing.assert_close(value, weights[name])
    random.manual_seed(1)
    once = replace(setup, settings=settings.model_copy(update={"synthesis_steps": 1}))
    first = synthesise(once, None, Ensemble([teacher], proportions), None, LossGuard({}), random)
    assert done.losses["total"] < first.losses["total"], "the latents have moved"


def test_a_run_in_pieces_equals_the_whole_and_keeps_no_generator(file, tmp_path):
    config, hashes = config_of(file), []
    for name, pauses in (("whole", 10_000), ("pieces", 7)):
        arrivals = iter(range(10_000))
        while len(hashes) < (1 if name == "whole" else 2):
            data = load_task(config.task, config.seed)
            executor = InlineExecutor(server(config, data), client_trainer(config, data))
            manifest = {"run_id": "0", "config": config.model_dump(mode="json")}
            with RunStore.open(tmp_path / name, manifest=manifest) as store:
                stops = lambda: next(arrivals) % pauses == pauses - 1  # noqa: B023, E731
                for _ in run_experiment(config, store, executor, interrupted=stops):
                    pass
                hashes += [store.manifest["hashes"]] if store.finished else []
    assert hashes[0] == hashes[1]
    rows = read_table(tmp_path / "whole", "arrivals").to_pylist()
    assert sum(row["synthesis_loss"] is not None for row in rows) >= 4
    state = build_algorithm(config, server_context(config, CPU, None)).init()
    assert state.memory.generator is None


def test_weights_other_than_the_initial_ones_make_other_samples(file):
    config = config_of(file)
    found = generator_weights(config)
    assert found is not None
    own = build_generator(config.algorithm, (1, 8, 8), config.seed, CPU).module.state_dict()
    assert found.keys() == own.keys()
    assert not torch.equal(found["dense.weight"], own["dense.weight"])
    assert generator_weights(load("digits", SMALL)) is None


def test_it_costs_no_gradient_of_its_weights(file):
    settings = config_of(file).algorithm
    work = ArrivalWork(teachers=0, probed=False, synthesised=True, adversarial=False, distilled=False)
    per_sample = generator_flops(settings, (1, 8, 8))
    samples = settings.synthesis_steps * settings.synthesis_batch
    assert arrival_flops(work, settings, 1, (1, 8, 8)) == 2 * samples * per_sample
    learning = settings.model_copy(update={"generator_file": None})
    assert arrival_flops(work, learning, 1, (1, 8, 8)) == 3 * samples * per_sample


def resized(file):
    tensors = load_file(file)
    save_file(tensors | {"dense.bias": torch.zeros(5)}, file)


def renamed(file):
    tensors = load_file(file)
    tensors["other"] = tensors.pop("dense.bias")
    save_file(tensors, file)


def extended(file):
    save_file(load_file(file) | {"running_mean": torch.zeros(5)}, file)


@pytest.mark.parametrize(
    ("spoil", "more", "code", "line"),
    [
        (lambda file: file.unlink(), [], 2, "does not exist; null trains a generator instead"),
        (lambda file: file.write_bytes(b"\x80\x04"), [], 3, "is no safetensors file"),
        (resized, [], 2, "has dense.bias of 5, this task's would be 32; set algorithm.latent_size"),
        (renamed, [], 2, "lacks tensor 'dense.bias'"),
        (extended, [], 2, "has an unknown tensor 'running_mean'"),
        (
            lambda file: None,
            ["algorithm.latent_size=9"],
            2,
            "dense.weight of 32x8, this task's would be 32x9",
        ),
        (lambda file: None, ["task.name=digits_affine"], 2, "algorithm.generator_width to those of the file"),
    ],
    ids=["missing", "pickle", "resized", "renamed", "extended", "latent", "images"],
)
def test_a_file_that_does_not_fit_is_one_line(file, spoil, more, code, line):
    spoil(file)
    with pytest.raises(UserError) as raised:
        require_files(config_of(file, *more))
    assert str(raised.value).startswith("algorithm.generator_file: ")
    assert line in raised.value.message
    assert raised.value.exit_code == code

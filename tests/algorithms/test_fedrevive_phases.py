"""What an arrival makes of the generator and the loss guard: against a slow float64 form, and remembered."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from fedrevive.algorithms import build_algorithm
from fedrevive.core.feature_statistics import statistic_layers
from fedrevive.core.generator import build_generator
from fedrevive.core.messages import ModelSnapshot
from fedrevive.core.probe_log import ProbeIndex
from fedrevive.core.seeds import Purpose, torch_generator
from fedrevive.core.teachers import draw_classes
from fedrevive.settings.fedrevive import SynthesisWeights

WEIGHTS = SynthesisWeights(onehot=0.9, feature_stats=3e-3, adversarial=0.7)


def double_of(context, vector) -> nn.Module:
    model = context.new_model()
    model.load(vector)
    return copy.deepcopy(model.module).double().eval()


def recording(module, inputs) -> tuple[torch.Tensor, list]:
    """Logits, and each statistic layer with its input."""
    reached = []
    for layer in statistic_layers(module):
        layer.register_forward_hook(lambda layer, args, _: reached.append((layer, args[0])))
    return module(inputs), reached


@torch.no_grad()
def slow_round(context, settings, before, after) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
    """Images, labels and unweighted terms of a round of one step, sample by sample and teacher by teacher."""
    batch, teachers = settings.synthesis_batch, after.memory.teachers
    clients = [teacher.client_id for teacher in teachers]
    proportions = ProbeIndex().proportions(after.memory.proportions, clients)
    random = torch_generator(context.seed, Purpose.SYNTHESIS, nth=before.version)
    labels = draw_classes(proportions.mean(0)[None], batch, random)[0]
    latents = torch.randn(batch, settings.latent_size, generator=random).double()
    embeddings = torch.randn(context.classes, settings.latent_size, generator=random).double()
    generator = build_generator(settings, context.input_shape, context.seed, context.device)
    generator.load(before.memory.generator.parameters)
    images = copy.deepcopy(generator.module).double()(
        latents + settings.embedding_weight * embeddings[labels]
    )
    inputs = (images - context.mean[0]) / context.std[0]
    student = torch.softmax(double_of(context, before.model)(inputs), dim=1)
    terms = {"onehot": 0.0, "feature": 0.0, "adversarial": 0.0}
    for k, teacher in enumerate(teachers):
        logits, reached = recording(double_of(context, teacher.model), inputs)
        answer = torch.softmax(logits, dim=1)
        weights = [float(proportions[k, y] / proportions[:, y].sum()) for y in labels.tolist()]
        for b, y in enumerate(labels.tolist()):
            terms["onehot"] -= weights[b] * float(answer[b, y].log()) / batch
            if int(answer[b].argmax()) == int(student[b].argmax()):
                divergence = float((answer[b] * (answer[b] / student[b]).log()).sum())
                terms["adversarial"] -= weights[b] * divergence / batch
        for layer, features in reached:
            mean, variance = features.mean(dim=(0, 2, 3)), features.var(dim=(0, 2, 3), correction=0)
            distance = (layer.running_mean - mean).norm() + (layer.running_var - variance).norm()
            terms["feature"] += sum(weights) * float(distance) / batch
    return images, labels, terms


def test_a_round_starts_from_the_servers_model_and_reports_its_terms(
    small, drive, config_of, context_of, update_of
) -> None:
    settings = small(weights=WEIGHTS, synthesis_steps=1, embedding_weight=0.6)
    context = context_of()
    before = drive(settings, arrivals=6)[-1][0]
    assert before.version == 6, "the teachers already disagree with the server, and a round is due"
    base = ModelSnapshot(3, context.initial_model.numpy())
    update = update_of(base, context, 1, 99)
    after, info = build_algorithm(config_of(settings), context).apply(before, base, update)
    images, labels, terms = slow_round(context, settings, before, after)
    pool = after.memory.pool
    assert torch.equal(pool.labels[-8:], labels)
    torch.testing.assert_close(pool.samples[-8:].double(), images, atol=1e-6, rtol=0)
    assert info.onehot_loss == pytest.approx(terms["onehot"], rel=1e-5)
    assert info.feature_loss == pytest.approx(terms["feature"], rel=1e-5)
    assert info.adversarial_loss == pytest.approx(terms["adversarial"], abs=1e-7)
    total = 0.9 * terms["onehot"] + 3e-3 * terms["feature"] + 0.7 * terms["adversarial"]
    assert info.synthesis_loss == pytest.approx(total, rel=1e-5)
    assert terms["adversarial"] < -1e-4, "the case must exercise the agreement mask"


def test_the_guard_remembers_every_loss_between_arrivals(small, drive) -> None:
    remembered: dict[str, tuple[float, ...]] = {}
    for state, info in drive(small(), arrivals=20):
        windows = state.memory.loss_windows
        new = {"distillation": 3 * (info.distill_loss is not None)}
        new |= dict.fromkeys(("onehot", "feature_stats"), 2 * (info.synthesis_loss is not None))
        new["adversarial"] = 2 * (info.adversarial_loss is not None)
        for name, count in new.items():
            if count:
                remembered[name] = (remembered.get(name, ()) + windows[name][-count:])[-20:]
        assert windows == remembered
        if info.distill_loss is not None:
            assert sum(windows["distillation"][-3:]) / 3 == pytest.approx(info.distill_loss, rel=1e-5)
        if info.onehot_loss is not None:
            assert info.onehot_loss in windows["onehot"][-2:]
    assert len(remembered["distillation"]) == 20
    assert min(len(window) for window in remembered.values()) >= 10


def test_a_jump_in_the_loss_leaves_the_raw_update(small, drive, config_of, context_of, update_of) -> None:
    context = context_of()
    before = drive(small(), arrivals=11)[-1][0]
    base = ModelSnapshot(before.version - 3, context.initial_model.numpy())
    update = update_of(base, context, 1, 99)
    update = replace(update, model=10 * update.model)
    for guard in (True, False):
        algorithm = build_algorithm(config_of(small(loss_guard=guard)), context)
        after, info = algorithm.apply(before, base, update)
        assert (info.beta == 0, info.distill_loss is None) == (guard, guard)
        windows = (before.memory.loss_windows["distillation"], after.memory.loss_windows["distillation"])
        assert windows[0] == windows[1]

"""Pseudo-texts: where they start, what a round makes of them, and what distilling on them may touch."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from fedrevive.core.distillation import DistillationSetup, distill
from fedrevive.core.feature_statistics import statistic_layers
from fedrevive.core.generator import initial_state, meta_step
from fedrevive.core.loss_guard import LossGuard
from fedrevive.core.synthesis import SynthesisSetup, synthesise
from fedrevive.core.synthetic_pool import SyntheticPool, appended, empty_pool
from fedrevive.core.teachers import Ensemble, draw_classes
from fedrevive.core.text_synthesis import TextSource, learning_prompts
from fedrevive.settings.fedrevive import FedReviveSettings, SynthesisWeights
from fedrevive.settings.model import TextTransformerSettings
from fedrevive.tasks.federated import TaskInfo
from fedrevive.tasks.models import build_model

CPU = torch.device("cpu")
INFO = TaskInfo("toy", (9,), 3, (), (), 40)
WEIGHTS = SynthesisWeights(onehot=1.0, feature_stats=0.3, adversarial=0.5)
SETTINGS = FedReviveSettings(
    prompt_vectors=2, synthesis_batch=12, synthesis_steps=2, weights=WEIGHTS, latent_lr=0.1, generator_lr=0.05
)
STARTS = ("random", "vocabulary", "snippets")


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frozen_model(seed: int):
    model = build_model(TextTransformerSettings(width=8, heads=2, layers=1), INFO, seed)
    model.parameters.mul_(2.0)
    model.buffers.add_(0.5 * torch.rand(model.spec.buffer_count, generator=random(seed)))
    model.module.eval().requires_grad_(False)
    return model


def ensemble(teachers: int = 3) -> Ensemble:
    proportions = torch.softmax(torch.randn(teachers, 3, generator=random(9)), dim=1)
    return Ensemble([frozen_model(seed) for seed in range(teachers)], proportions)


SNIPPETS = SyntheticPool(
    torch.tensor([[2, 3, 4, 0, 0, 0, 0, 0, 0], [5, 6, 7, 8, 9, 10, 11, 12, 13], [20] * 9]),
    torch.tensor([0, 1, 1]),
)


def setup(start: str, **changed) -> SynthesisSetup:
    settings = SETTINGS.model_copy(update={"text_start": start, **changed})
    source = TextSource(settings, frozen_model(7), 9, SNIPPETS)
    return SynthesisSetup(settings, learning_prompts(source, 4, CPU), lambda texts, _: texts)


def drafted(start: str, labels: torch.Tensor, seed: int = 0):
    made = setup(start)
    draft = made.generator.draft(labels, 3, random(seed))
    return made, draft, draft.samples().detach()


@pytest.mark.parametrize("start", STARTS)
def test_prompts_stand_in_front_and_padding_is_zero(start):
    made, draft, texts = drafted(start, torch.zeros(300, dtype=torch.int64))
    assert texts.shape == (300, 9, 8)
    prompts = made.generator.theta.module.vectors
    torch.testing.assert_close(texts[:, :2], prompts.detach().expand(300, 2, 8))
    taken = (texts[:, 2:] != 0).any(dim=2)  # [300, 7]
    lengths = taken.sum(dim=1)
    assert torch.equal(taken, torch.arange(7) < lengths[:, None]), "no gap within a text"
    most = 3 if start == "snippets" else 7
    assert lengths.unique().tolist() == list(range(min(4, most), most + 1))
    (leaf,) = draft.leaves
    draft.samples().square().sum().backward()
    assert torch.equal((leaf.grad != 0).any(dim=2), taken), "padding is not trained"


def test_random_and_vocabulary_starts_have_their_moments():
    labels = torch.zeros(3000, dtype=torch.int64)
    table = frozen_model(7).module.table()[1:]
    for start, mean, std in (
        ("random", torch.zeros(8), torch.ones(8)),
        ("vocabulary", table.mean(0), table.std(0)),
    ):
        _, _, texts = drafted(start, labels)
        always = texts[:, 2:6].reshape(-1, 8)  # places that every text has
        torch.testing.assert_close(always.mean(0), mean, atol=0.04, rtol=0)
        torch.testing.assert_close(always.std(0), std, atol=0.04, rtol=0)


def test_snippets_are_texts_of_the_class_through_the_servers_table():
    labels = torch.tensor([0] + 20 * [1] + 20 * [2])
    _, _, texts = drafted("snippets", labels)
    table = frozen_model(7).module.table()
    known = {tuple(row[:1].flatten().tolist()): n for n, row in enumerate(SNIPPETS.samples[:, :, None])}
    found = []
    for text in texts[:, 2:]:
        first = int((table - text[0]).square().sum(1).argmin())
        found.append(known[(first,)])
        length = int((text != 0).any(dim=1).sum())
        torch.testing.assert_close(text[:length], table[SNIPPETS.samples[found[-1], :length]])
    assert found[0] == 0
    assert set(found[1:21]) == {1, 2}
    assert set(found[21:]) == {0, 1, 2}, "a class without snippets takes any"


def test_prompts_start_at_the_scale_of_the_table_whatever_the_start():
    first, again, other = (
        learning_prompts(TextSource(SETTINGS, frozen_model(7), 9, None), seed, CPU).theta.vector
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    ratio = float(first.std() / frozen_model(7).module.table().std())
    assert 0.5 < ratio < 2


def test_prompts_need_room():
    settings = SETTINGS.model_copy(update={"prompt_vectors": 9})
    with pytest.raises(ValueError, match=r"algorithm.prompt_vectors: 9 leave no place in texts of 9 tokens"):
        learning_prompts(TextSource(settings, frozen_model(7), 9, None), 0, CPU)


def slow_round(made: SynthesisSetup, start: str):
    """Samples of each step, and prompts after the round: torch's own modules and optimiser, float64."""
    draws, teachers, student = random(5), ensemble(), copy.deepcopy(frozen_model(8).module).double()
    labels = draw_classes(teachers.proportions.mean(0)[None], 12, draws)[0]
    draft = made.generator.draft(labels, 3, draws)
    first = draft.samples().detach().double()
    present = (first[:, 2:] != 0).any(dim=2, keepdim=True)
    prompts = made.generator.theta.module.vectors.detach().double().clone().requires_grad_()
    texts = first[:, 2:].clone().requires_grad_()
    adam = torch.optim.Adam(
        [{"params": [prompts], "lr": 0.05}, {"params": [texts], "lr": 0.1}], betas=(0.5, 0.999)
    )
    seen, totals = [], []
    weights = teachers.proportions.double() / teachers.proportions.double().sum(0)
    for _ in range(2):
        samples = torch.cat([prompts.expand(12, 2, 8), texts * present], dim=1)
        own = torch.log_softmax(student(samples), dim=1)
        total = torch.zeros((), dtype=torch.float64)
        for k, model in enumerate(teachers.models):
            module, reached = copy.deepcopy(model.module).double(), []
            for layer in statistic_layers(module):
                layer.register_forward_hook(
                    lambda layer, args, _, kept=reached: kept.append((layer, args[0]))
                )
            answer = torch.log_softmax(module(samples), dim=1)
            for b, y in enumerate(labels.tolist()):
                share = weights[k, y] / 12
                total = total - share * answer[b, y]
                for layer, features in reached:
                    gap = (layer.running_mean - features.mean(0)).norm()
                    gap = gap + (layer.running_var - features.var(0, correction=0)).norm()
                    total = total + 0.3 * share * gap
                if int(answer[b].argmax()) == int(own[b].argmax()):
                    total = total - 0.5 * share * (answer[b].exp() * (answer[b] - own[b])).sum()
        seen.append(samples.detach())
        totals.append(float(total.detach()))
        adam.zero_grad()
        total.backward()
        adam.step()
    return labels, seen[totals.index(min(totals))], prompts.detach()


@pytest.mark.parametrize("start", STARTS)
def test_a_round_equals_the_slow_form(start):
    made = setup(start)
    labels, samples, adapted = slow_round(made, start)
    state = initial_state(made.generator.theta)
    done = synthesise(made, state, ensemble(), frozen_model(8), LossGuard({}), random(5))
    assert torch.equal(done.labels, labels)
    torch.testing.assert_close(done.samples.double(), samples, atol=1e-4, rtol=0)
    expected = meta_step(made.settings, state, adapted.flatten().float())
    torch.testing.assert_close(done.generator.parameters, expected.parameters, atol=1e-4, rtol=0)
    assert not torch.equal(done.generator.parameters, state.parameters)


def test_rounds_lower_the_loss_of_the_prompts():
    made = setup("vocabulary", weights=SynthesisWeights(adversarial=0.0), latent_lr=1e-6, synthesis_batch=64)
    state, teachers, losses = initial_state(made.generator.theta), ensemble(1), []
    for number in range(40):
        done = synthesise(made, state, teachers, None, LossGuard({}), random(number))
        state = done.generator
        losses.append(done.losses["onehot"])
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_distilling_on_embeddings_leaves_the_table_and_on_texts_does_not(optimizer):
    settings = SETTINGS.model_copy(
        update={"distill_steps": 3, "distill_batch": 4, "distill_optimizer": optimizer, "distill_lr": 0.01}
    )
    student = frozen_model(8)
    before, table = student.vector.clone(), student.module.trained_table
    embedded = F.embedding(torch.randint(1, 40, (20, 9), generator=random(1)), student.module.table())
    for samples in (embedded.detach(), torch.randint(1, 40, (20, 9), generator=random(1))):
        pool = appended(empty_pool(samples.shape[1:], CPU, samples.dtype), samples, torch.arange(20) % 3, 100)
        student.load(before)
        plain = DistillationSetup(settings, lambda texts, _: texts)
        done = distill(plain, student, ensemble(), pool, LossGuard({}), random(2))
        assert done.delta[table:].any()
        assert bool(done.delta[:table].any()) == (samples.dim() == 2)

"""Pseudo-texts as embeddings: trainable vectors behind prompt vectors that are meta-learned (algorithm.md §1.8).

theta is the prompts. A round drafts a text per label, prepends the prompts and trains both; the pool keeps the result.
Ours: prompts take as many inner steps as the texts, and the Reptile step is the image path's.
Where the vectors start is the paper's second open question:

    random      standard normal, knowing nothing of the table, not even its scale
    vocabulary  normal with the mean and the standard deviation of each of the table's dimensions
    snippets    a text of that class that a language model wrote, through the server's table
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedrevive.core.model_state import FlatModel
from fedrevive.core.sample_generator import Draft, Drafting, SampleGenerator
from fedrevive.core.seeds import Purpose, torch_generator
from fedrevive.core.synthetic_pool import SyntheticPool, draw_of_class
from fedrevive.core.text_network import TextNetwork
from fedrevive.core.token_ids import PADDING
from fedrevive.settings.fedrevive import FedReviveSettings


class PromptVectors(nn.Module):
    """theta: vectors [prompts, D] in front of every pseudo-text."""

    def __init__(self, initial: Tensor) -> None:
        super().__init__()
        self.vectors = nn.Parameter(initial)


@dataclass(frozen=True)
class TextSource:
    """What pseudo-texts are drafted from."""

    settings: FedReviveSettings
    server: FlatModel
    """Holds the current server model during a round; its table is read."""
    length: int
    """Places of a pseudo-text, prompts included."""
    snippets: SyntheticPool | None
    """Token ids [n, L] by class, for text_start=snippets."""


def learning_prompts(source: TextSource, seed: int, device: torch.device) -> SampleGenerator:
    """Prompts drawn at the scale of the initial table.

    Raises:
        ValueError: the prompts leave no place for a text.
    """
    settings, network = source.settings, source.server.module
    assert isinstance(network, TextNetwork)
    if settings.prompt_vectors >= source.length:
        raise ValueError(
            f"algorithm.prompt_vectors: {settings.prompt_vectors} leave no place in texts of {source.length} tokens"
        )
    table = network.table().detach()
    random = torch_generator(seed, Purpose.INITIAL_GENERATOR)
    initial = torch.randn(settings.prompt_vectors, table.shape[1], generator=random) * float(table.std())
    theta = FlatModel(PromptVectors(initial), "reset", device)
    return SampleGenerator(theta, _drafting(source, theta))


def _drafting(source: TextSource, theta: FlatModel) -> Drafting:
    prompts = theta.module.vectors
    assert isinstance(prompts, nn.Parameter)

    def draft(labels: Tensor, classes: int, random: torch.Generator) -> Draft:
        texts, present = _start(source, labels, classes, random)
        texts.requires_grad_()

        def samples() -> Tensor:
            in_front = prompts.expand(len(labels), *prompts.shape)
            return torch.cat([in_front, texts * present.unsqueeze(2)], dim=1)  # [B, L, D]

        return Draft((texts,), samples)

    return draft


def _start(
    source: TextSource, labels: Tensor, classes: int, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Embeddings [B, T, D] and which of the places are taken [B, T]: from half of them to all, drawn uniformly."""
    network = source.server.module
    assert isinstance(network, TextNetwork)
    table = network.table().detach()
    count, room = len(labels), source.length - source.settings.prompt_vectors
    shape = (count, room, table.shape[1])
    if source.settings.text_start == "snippets":
        assert source.snippets is not None, "assemble.server gives snippets to settings that ask for them"
        drawn = draw_of_class(source.snippets, labels[None], classes, random)[0]
        tokens = source.snippets.samples[drawn, :room]
        texts, present = F.embedding(tokens, table), tokens != PADDING
    else:
        texts = torch.randn(shape, generator=random, device=labels.device)
        present = torch.ones(shape[:2], dtype=torch.bool, device=labels.device)
    if source.settings.text_start == "vocabulary":
        known = table[PADDING + 1 :]
        texts = known.mean(dim=0) + known.std(dim=0) * texts
    lengths = torch.randint(-(-room // 2), room + 1, (count, 1), generator=random, device=labels.device)
    return texts, present & (torch.arange(room, device=labels.device) < lengths)

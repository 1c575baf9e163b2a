"""What every network of texts offers: it reads token ids, and the embeddings of pseudo-texts that have no tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedrevive.core.token_ids import PADDING


class TextNetwork(nn.Module, ABC):
    """Texts to logits [B, classes].

    A text is token ids [B, L], or embeddings [B, L, D] in the place of the table's rows; a zero vector is padding.
    """

    trained_table: int
    """How many of the first parameters are the table's; 0 for a table that is not trained."""

    def forward(self, texts: Tensor) -> Tensor:
        if texts.is_floating_point():
            return self.classify(texts, (texts != 0).any(dim=2))
        present = texts != PADDING
        embedded = F.embedding(texts, self.table(), padding_idx=PADDING)
        return self.classify(embedded * present.unsqueeze(2), present)

    @abstractmethod
    def table(self) -> Tensor:
        """Embeddings of all token ids, [V, D]."""

    @abstractmethod
    def classify(self, embedded: Tensor, present: Tensor) -> Tensor:
        """Logits [B, classes] of embeddings [B, L, D]; `present` [B, L] is false at padding, perhaps everywhere."""

    @abstractmethod
    def attention_flops(self, length: int) -> int:
        """Operations of the products of queries, keys and values for one text of `length` tokens (multiply-add = 2)."""


def masked_mean(features: Tensor, present: Tensor) -> Tensor:
    """Mean of the vectors [B, L, D] where `present` [B, L]; zero for a text without any: [B, D]."""
    weights = present.unsqueeze(2).to(features.dtype)
    return (features * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)


def unreached_parameters(module: nn.Module, samples: Tensor) -> int:
    """Leading parameters that pool samples do not reach: a trained table, when the samples are embeddings already."""
    embedded = isinstance(module, TextNetwork) and samples.is_floating_point()
    return module.trained_table if embedded else 0  # type: ignore[return-value]


def random_tokens(count: int, length: int, vocabulary: int, random: torch.Generator) -> Tensor:
    """Texts without padding [count, length], every token id alike (int64)."""
    shape = (count, length)
    return torch.randint(PADDING + 1, vocabulary, shape, generator=random, device=random.device)

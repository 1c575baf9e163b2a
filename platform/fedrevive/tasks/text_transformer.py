"""A compact transformer encoder that learns to classify texts from scratch on a CPU.

Pre-norm blocks (Xiong et al., arXiv:2002.04745) without dropout, whose draws would come from a global stream; the mean
over the tokens is classified. Every block ends in a tracker of that mean, by which teachers remember what they saw.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fedrevive.core.feature_statistics import FeatureTracker
from fedrevive.core.text_network import TextNetwork, masked_mean
from fedrevive.settings.model import TextTransformerSettings

TABLE_SCALE = 0.1
"""Standard deviation of initial embeddings and positions. Ours: small enough for Adam to reshape within a few jobs."""
HIDDEN_FACTOR = 2
"""Hidden units of a block's perceptron, in widths. Ours."""


class TextTransformer(TextNetwork):
    """Token ids [B, L] or embeddings [B, L, D] -> logits [B, classes].

    Args:
        settings: width D, heads, blocks.
        length: L, the longest text.
        vocabulary: token ids, padding included.
        classes: number of logits.
    """

    def __init__(self, settings: TextTransformerSettings, length: int, vocabulary: int, classes: int) -> None:
        super().__init__()
        width = settings.width
        self.embedding = nn.Parameter(TABLE_SCALE * torch.randn(vocabulary, width))
        self.trained_table = self.embedding.numel()
        self.positions = nn.Parameter(TABLE_SCALE * torch.randn(length, width))
        self.blocks = nn.ModuleList(_Block(width, settings.heads) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def table(self) -> Tensor:
        return self.embedding

    def classify(self, embedded: Tensor, present: Tensor) -> Tensor:
        features = embedded + self.positions[: embedded.shape[1]]
        for block in self.blocks:
            features = block(features, present)
        logits: Tensor = self.head(self.norm(masked_mean(features, present)))
        return logits

    def attention_flops(self, length: int) -> int:
        return len(self.blocks) * 2 * 2 * length * length * self.norm.normalized_shape[0]


class _Block(nn.Module):
    """[B, L, D] -> [B, L, D]: attention among the present tokens, then a perceptron, each added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.mixed = nn.Linear(width, width)
        self.perceptron_norm = nn.LayerNorm(width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, HIDDEN_FACTOR * width), nn.ReLU(), nn.Linear(HIDDEN_FACTOR * width, width)
        )
        self.tracker = FeatureTracker(width)

    def forward(self, features: Tensor, present: Tensor) -> Tensor:
        features = features + self._attended(self.attention_norm(features), present)
        features = features + self.perceptron(self.perceptron_norm(features))
        self.tracker(masked_mean(features, present))
        return features

    def _attended(self, features: Tensor, present: Tensor) -> Tensor:
        """Written out, because the fused kernels of a GPU add up gradients in no fixed order."""
        batch, length, width = features.shape
        split = self.queries_keys_values(features).view(batch, length, 3, self._heads, width // self._heads)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)  # [B, heads, L, D / heads] each
        scores = queries @ keys.transpose(2, 3) / math.sqrt(width // self._heads)
        scores = scores.masked_fill(~present[:, None, None, :], torch.finfo(scores.dtype).min)
        attended = (scores.softmax(dim=3) @ values).transpose(1, 2).reshape(batch, length, width)
        mixed: Tensor = self.mixed(attended)
        return mixed

"""The encoder of a pre-trained T5 (Raffel et al., arXiv:1910.10683) from a folder that `transformers` saved.

After the authors' reference settings: embeddings frozen, a fixed token in front of the text, its place classified by
two layers with tanh between, a tracker of that place in every block. Ours: no dropout, whose draws would come from a
global stream, and `</s>` for the fixed token.
"""

from __future__ import annotations

import copy
import functools
import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from fedrevive.core.feature_statistics import FeatureTracker
from fedrevive.core.text_network import TextNetwork
from fedrevive.settings.errors import ExitCode, UserError, shown
from fedrevive.settings.model import T5EncoderSettings

FILES = ("config.json", "model.safetensors")
FIRST_TOKEN = 1
"""Id of `</s>` in every T5."""


class T5Classifier(TextNetwork):
    """Token ids [B, L] or embeddings [B, L, D] -> logits [B, classes].

    Args:
        settings: the folder.
        classes: number of logits.
    """

    trained_table = 0
    embeddings: Tensor
    """[V, D]; part of the folder, not of a model's vector."""

    def __init__(self, settings: T5EncoderSettings, classes: int) -> None:
        super().__init__()
        encoder, table = _pretrained(settings.folder)
        width = table.shape[1]
        self.register_buffer("embeddings", table, persistent=False)
        self.encoder = copy.deepcopy(encoder)
        self.dense = nn.Linear(width, width)
        self.head = nn.Linear(width, classes)

    def table(self) -> Tensor:
        return self.embeddings

    def classify(self, embedded: Tensor, present: Tensor) -> Tensor:
        batch, _, width = embedded.shape
        first = self.embeddings[FIRST_TOKEN].expand(batch, 1, width)
        answers = self.encoder(
            inputs_embeds=torch.cat([first, embedded], dim=1),
            attention_mask=torch.cat([torch.ones_like(present[:, :1]), present], dim=1),
        )
        pooled = torch.tanh(self.dense(answers.last_hidden_state[:, 0]))
        logits: Tensor = self.head(pooled)
        return logits

    def attention_flops(self, length: int) -> int:
        config: Any = self.encoder.config
        return int(config.num_layers * 2 * 2 * (length + 1) ** 2 * config.num_heads * config.d_kv)


class _TrackedBlock(nn.Module):
    """A block of the encoder that also records its first place [B, D]."""

    def __init__(self, block: nn.Module, width: int) -> None:
        super().__init__()
        self.block = block
        self.tracker = FeatureTracker(width)

    def forward(self, *values: Any, **named: Any) -> Any:
        outputs = self.block(*values, **named)
        self.tracker(outputs[0][:, 0])
        return outputs


def check(settings: T5EncoderSettings, vocabulary: int) -> None:
    """Look whether the encoder can be loaded and knows the task's token ids, without loading it.

    Raises:
        UserError: `transformers` or a file is missing, or the vocabulary is larger than the encoder's.
    """
    if find_spec("transformers") is None:
        raise UserError("model.name: t5_encoder needs transformers; pip install 'fedrevive[text]'")
    folder = Path(settings.folder).expanduser()
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"model.folder: {shown(settings.folder)} lacks {missing[0]}; save an encoder there with "
            f"transformers' T5EncoderModel.save_pretrained; looked in {folder.absolute()}"
        )
    try:
        known = int(json.loads((folder / "config.json").read_bytes())["vocab_size"])
    except (ValueError, KeyError, TypeError) as error:
        raise _corrupt(settings.folder, f"config.json names no vocab_size ({error})") from None
    if known < vocabulary:
        raise UserError(
            f"task.vocabulary: {vocabulary} exceeds the {known} token ids of model.folder's encoder"
        )


@functools.lru_cache(maxsize=1)
def _pretrained(folder: str) -> tuple[nn.Module, Tensor]:
    """The encoder without its table, its blocks tracked, and the table [V, D]."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a folder is all it may look at
    from transformers import T5EncoderModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        answer: Any = T5EncoderModel.from_pretrained(
            Path(folder).expanduser(),
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            dropout_rate=0.0,
            attn_implementation="eager",  # the fused kernels of a GPU add up gradients in no fixed order
            dtype=torch.float32,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _corrupt(folder, " ".join(str(error).split())[:120]) from error
    loaded, report = answer
    if report["missing_keys"]:
        raise _corrupt(folder, f"model.safetensors lacks {min(report['missing_keys'])}")
    encoder = loaded.encoder
    table = encoder.embed_tokens.weight.detach().clone()
    encoder.embed_tokens = nn.Identity()
    encoder.block = nn.ModuleList(_TrackedBlock(block, table.shape[1]) for block in encoder.block)
    return encoder, table


def _corrupt(folder: str, reason: str) -> UserError:
    return UserError(
        f"model.folder: {shown(folder)} holds no T5 encoder ({reason}); save it again",
        exit_code=ExitCode.CORRUPT,
    )

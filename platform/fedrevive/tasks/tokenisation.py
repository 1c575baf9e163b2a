"""From texts to token ids of a fixed length: words counted in the training part, or a tokenizer from a file.

Ids 0 and 1 are padding and unknown (`core.token_ids`); a file's tokenizer must agree about the first, as T5's do.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedrevive.core.token_ids import FIRST_FREE, PADDING, UNKNOWN
from fedrevive.settings.errors import ExitCode, UserError, shown

WORD = re.compile(r"\b\w\w+\b")
"""Two or more letters or digits: the rule of scikit-learn's vectorisers."""

Tokenizer = Callable[[str, int], list[int]]
"""(text, length) -> at most `length` token ids."""


def words(text: str) -> Iterable[str]:
    """Lower-case words, in order."""
    return (found.group() for found in WORD.finditer(text.lower()))


def most_frequent(tokens: Iterable[str], vocabulary: int) -> dict[str, int]:
    """Token -> id for the most frequent ones, ties in alphabetical order; ids below `vocabulary`."""
    counts = sorted(Counter(tokens).items(), key=lambda item: (-item[1], item[0]))
    return {token: FIRST_FREE + rank for rank, (token, _) in enumerate(counts[: vocabulary - FIRST_FREE])}


def word_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A tokenizer of the most frequent words of `texts`; the same texts, in any order, give the same one."""
    ids = most_frequent((word for text in texts for word in words(text)), vocabulary)
    return lambda text, length: [ids.get(word, UNKNOWN) for word in islice(words(text), length)]


def file_tokenizer(file: str, vocabulary: int) -> Tokenizer:
    """The tokenizer of a tokenizer.json.

    Raises:
        UserError: the library or the file is missing (exit code 2), the file is damaged (3), or it has larger ids (2).
    """
    path = Path(file).expanduser()
    if find_spec("tokenizers") is None:
        raise UserError("task.tokenizer_file: needs the library tokenizers; pip install 'fedrevive[text]'")
    if not path.is_file():
        raise UserError(f"task.tokenizer_file: {shown(file)} does not exist; null counts words instead")
    from tokenizers import Tokenizer as Pretrained

    try:
        pretrained = Pretrained.from_str(path.read_text("utf-8"))
    except Exception as error:  # the library raises nothing more specific
        reason = " ".join(str(error).split())[:80]
        raise UserError(
            f"task.tokenizer_file: {shown(file)} is no tokenizer.json ({reason})", exit_code=ExitCode.CORRUPT
        ) from None
    largest = pretrained.get_vocab_size(with_added_tokens=True)
    if largest > vocabulary:
        raise UserError(
            f"task.vocabulary: {vocabulary} is less than the {largest} token ids of task.tokenizer_file; "
            f"set task.vocabulary={largest}"
        )
    pretrained.no_padding()
    pretrained.no_truncation()

    def tokens(text: str, length: int) -> list[int]:
        ids: list[int] = pretrained.encode(text, add_special_tokens=False).ids
        return ids[:length]

    return tokens


def padded(texts: Sequence[Sequence[int]], length: int, *, in_front: bool = False) -> NDArray[np.int32]:
    """Token ids [n, length]: every text at the start, or at the end, of its row; none is longer than that."""
    rows = np.full((len(texts), length), PADDING, np.int32)
    for row, text in zip(rows, texts, strict=True):
        if text:
            row[slice(-len(text), None) if in_front else slice(len(text))] = text
    return rows

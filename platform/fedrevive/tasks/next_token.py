"""Next character or word of a person's text: Shakespeare and Stack Overflow, as LEAF (arXiv:1812.01097) poses them.

A sample is a context of fixed length and the token that follows: classification with the vocabulary as classes.
What follows is never the unknown token: such samples are left out (ours). A person's samples are in order of time, and
so are the parts: the earlier ones train.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedrevive.core.token_ids import UNKNOWN
from fedrevive.settings.errors import UserError, shown
from fedrevive.settings.task import NextTokenTask
from fedrevive.tasks.federated import Split, Splits, TaskInfo
from fedrevive.tasks.speech_files import Spoken, spoken
from fedrevive.tasks.speech_files import check as check_files
from fedrevive.tasks.tokenisation import most_frequent, padded

NAME = "next_token"
TEST_PERCENT = (80, 20)
"""Training and test share of a person's samples where the files do not say. LEAF's usual split: 80 to 90."""
PERCENT = (75, 15, 10)
"""Train, validation and KD shares of a person's training samples. As in the other tasks."""


@dataclass(frozen=True)
class _Samples:
    """Contexts [n] of tokens, what follows each, and whose they are [n]."""

    contexts: list[Sequence[str]]
    following: list[str]
    owners: list[str]

    def take(self, indices: NDArray[np.int64]) -> _Samples:
        return _Samples(
            [self.contexts[i] for i in indices],
            [self.following[i] for i in indices],
            [self.owners[i] for i in indices],
        )


def info(settings: NextTokenTask) -> TaskInfo:
    """Shapes and classes."""
    return TaskInfo(NAME, (settings.length,), settings.vocabulary, (), (), settings.vocabulary)


def check(settings: NextTokenTask) -> None:
    """Look whether the files are there.

    Raises:
        UserError: they are not.
    """
    check_files(settings.data_dir)


def load(settings: NextTokenTask, may_download: bool) -> Splits:
    """Read all files below `data_dir`; there is nothing to download from.

    Raises:
        UserError: files that are missing (exit code 2) or damaged (3), or too few samples (2).
    """
    del may_download
    check(settings)
    recorded, test = (_samples(settings, spoken(settings.data_dir, test=part)) for part in (False, True))
    if not test.owners:
        recorded, test = (recorded.take(part) for part in in_order(recorded.owners, TEST_PERCENT))
    train, validation, kd = (recorded.take(part) for part in in_order(recorded.owners, PERCENT))
    ids = most_frequent(_all_tokens(train), settings.vocabulary)
    train, validation, kd, test = (_known(part, ids) for part in (train, validation, kd, test))
    for name, part in (("train", train), ("validation", validation), ("KD", kd), ("test", test)):
        if not part.owners:
            raise UserError(
                f"task.data_dir: {shown(settings.data_dir)} leaves no sample for the {name} part; add more text"
            )
    parts = (_encoded(part, ids, settings.length) for part in (train, validation, kd, test))
    owners = np.unique(np.array(train.owners), return_inverse=True)[1]
    return Splits(*parts, train_owners=owners.astype(np.int64))


def in_order(owners: Sequence[str], percent: tuple[int, ...]) -> list[NDArray[np.int64]]:
    """Indices of each part: every person's samples are cut, in their order, at the same shares, which sum to 100."""
    if not owners:
        return [np.empty(0, np.int64) for _ in percent]
    person, counts = np.unique(np.array(owners), return_inverse=True, return_counts=True)[1:]
    order = np.argsort(person, kind="stable")
    rank = np.empty(len(owners), np.int64)
    rank[order] = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    part = np.searchsorted(np.cumsum(percent)[:-1], rank * 100 // counts[person], side="right")
    return [np.flatnonzero(part == number) for number in range(len(percent))]


def _samples(settings: NextTokenTask, records: Iterable[Spoken]) -> _Samples:
    """Of texts with their next token, one each; of longer texts, one for every token but the first."""
    samples = _Samples([], [], [])
    for record in records:
        tokens = _tokens(settings, record.text)
        if record.following is not None:
            pairs: Iterable[tuple[Sequence[str], str]] = [(tokens, record.following)]
        else:
            pairs = ((tokens[max(0, at - settings.length) : at], tokens[at]) for at in range(1, len(tokens)))
        for context, following in pairs:
            samples.contexts.append(context[-settings.length :])
            samples.following.append(following)
            samples.owners.append(record.owner)
    return samples


def _tokens(settings: NextTokenTask, text: str) -> Sequence[str]:
    return text if settings.unit == "character" else text.split()


def _all_tokens(samples: _Samples) -> Iterable[str]:
    for context, following in zip(samples.contexts, samples.following, strict=True):
        yield from context
        yield following


def _known(samples: _Samples, ids: dict[str, int]) -> _Samples:
    return samples.take(np.flatnonzero([token in ids for token in samples.following]))


def _encoded(samples: _Samples, ids: dict[str, int], length: int) -> Split:
    contexts = [[ids.get(token, UNKNOWN) for token in context] for context in samples.contexts]
    labels = np.array([ids[token] for token in samples.following], np.int64)
    return Split(padded(contexts, length, in_front=True), labels)

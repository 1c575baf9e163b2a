"""A tiny 20 Newsgroups in the real form, and experiments on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedrevive.settings import ExperimentConfig
from fedrevive.settings.loading import load
from fedrevive.tasks.newsgroups import GROUPS, PARTS

TINY = [
    "task.length=12",
    "task.vocabulary=150",
    "task.clients=12",
    "task.samples_per_client=10",
    "model.width=8",
    "client.local_steps=2",
    "client.batch_size=4",
    "server.concurrency=6",
    "algorithm.teacher_capacity=3",
    "algorithm.warmup_versions=4",
    "algorithm.freeze_versions=2",
    "algorithm.generate_every_versions=3",
    "algorithm.probe_samples=8",
    "algorithm.synthesis_batch=6",
    "algorithm.distill_batch=4",
    "algorithm.distill_steps=2",
    "stop.arrivals=24",
    "evaluation.every_arrivals=6",
]


def write_newsgroups(root: Path) -> Path:
    """Posts with headers, a quote and a signature, two words of which tell the group."""
    random = np.random.default_rng(5)
    for part, count in zip(PARTS, (8, 3), strict=True):
        for number, group in enumerate(GROUPS):
            folder = root / part / group
            folder.mkdir(parents=True)
            for post in range(count):
                common = " ".join(f"common{word}" for word in random.integers(0, 30, 8))
                (folder / f"{50000 + post}").write_bytes(
                    f"From: someone@example.org\nSubject: header{number}\n\n"
                    f"someone writes:\n> quoted{number}\n"
                    f"Topic{number}a topic{number}b {common} caf\xe9.\n\n--\nsignature{number}\n".encode(
                        "latin1"
                    )
                )
    return root


@pytest.fixture(scope="session")
def newsgroups_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_newsgroups(tmp_path_factory.mktemp("news"))


@pytest.fixture(scope="session")
def tiny(newsgroups_dir: Path) -> Callable[..., ExperimentConfig]:
    """tiny("a.b=c", ...): the preset at the size of seconds; another task, algorithm or model has its own defaults."""

    def config(*more: str) -> ExperimentConfig:
        chosen = {word.partition(".")[0] for word in more if ".name=" in word}
        words = [*TINY, f"task.data_dir={newsgroups_dir}"]
        kept = [word for word in words if word.partition(".")[0] not in chosen]
        return load("newsgroups", [*kept, *more])

    return config

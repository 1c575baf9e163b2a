"""What people wrote, from the two forms in which Shakespeare and Stack Overflow are published.

LEAF's JSON: `train/*.json` and `test/*.json`, a user's x being texts and its y what follows each.
Parquet: any `*.parquet`, of which those with `test` in their name are the test part; columns `character_id` or
`client_id`, and `x` and `y`, or `tokens`: whole sentences, their words separated by blanks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fedrevive.settings.errors import UserError, shown
from fedrevive.tasks.leaf_files import json_files, users
from fedrevive.tasks.torchvision_files import corrupt

OWNERS = ("character_id", "client_id")
"""Parquet columns that say who wrote it."""
REMEDY = "make it again with LEAF's preprocess.sh, or fetch it again"


class Spoken(NamedTuple):
    """A piece of text."""

    owner: str
    text: str
    following: str | None
    """The token after the text; None when every token of the text is to be predicted from those before it."""


def check(data_dir: str) -> None:
    """Raise `UserError` when `data_dir` holds neither form."""
    if not _files(data_dir, test=False):
        raise UserError(
            f"task.data_dir: {shown(data_dir)} holds neither LEAF's train/*.json nor Parquet files; make them with "
            f"LEAF's preprocess.sh; looked in {Path(data_dir).expanduser().absolute()}"
        )


def spoken(data_dir: str, *, test: bool) -> Iterator[Spoken]:
    """All pieces of a part, in the order of the files; none when the files name no such part.

    Raises:
        UserError: a file is damaged (exit code 3).
    """
    for path in _files(data_dir, test=test):
        yield from _parquet(path) if path.suffix == ".parquet" else _leaf(path)


def _files(data_dir: str, *, test: bool) -> list[Path]:
    root = Path(data_dir).expanduser()
    tables = sorted(root.glob("*.parquet"))
    if tables:
        return [path for path in tables if ("test" in path.name) == test]
    return [path for path in json_files(root) if (path.parent.name == "test") == test]


def _leaf(path: Path) -> Iterator[Spoken]:
    for name, texts, following in users(path, REMEDY):
        for text, token in zip(texts, following, strict=True):
            if not isinstance(text, str) or not isinstance(token, str):
                raise corrupt(path, f"user {name[:20]} has a sample that is no text", REMEDY)
            yield Spoken(name, text, token)


def _parquet(path: Path) -> Iterator[Spoken]:
    import pyarrow as pa

    from fedrevive.core.parquet_file import read_parquet

    try:
        table = read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        raise corrupt(path, " ".join(str(error).split())[:60], REMEDY) from None
    names = table.column_names
    owner = next((name for name in OWNERS if name in names), None)
    sentences = "tokens" in names
    if owner is None or not (sentences or {"x", "y"} <= set(names)):
        raise corrupt(path, f"needs columns {' or '.join(OWNERS)}, and x and y or tokens", REMEDY)
    texts = table.column("tokens" if sentences else "x").to_pylist()
    following = [None] * len(texts) if sentences else table.column("y").to_pylist()
    for row, (name, text, token) in enumerate(
        zip(table.column(owner).to_pylist(), texts, following, strict=True)
    ):
        if not isinstance(text, str) or not (sentences or isinstance(token, str)):
            raise corrupt(path, f"row {row} is no text", REMEDY)
        yield Spoken(str(name), text, token)

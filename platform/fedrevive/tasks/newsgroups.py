"""20 Newsgroups (Lang, "Newsweeder", ICML 1995), bydate version, read from its folders by scikit-learn.

Headers, footers and quotes are removed by scikit-learn's own rules, without which a network learns addresses. The
folders are read, never the pickle that `fetch_20newsgroups` keeps.
"""

from __future__ import annotations

import hashlib
import os
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedrevive.settings.errors import ExitCode, UserError, shown
from fedrevive.settings.task import NewsgroupsTask
from fedrevive.tasks.federated import Split, Splits, TaskInfo, split_indices
from fedrevive.tasks.tokenisation import Tokenizer, file_tokenizer, padded, word_tokenizer
from fedrevive.tasks.torchvision_files import download

NAME, TITLE = "newsgroups", "20 Newsgroups"
PARTS = ("20news-bydate-train", "20news-bydate-test")
GROUPS = (
    "alt.atheism",
    "comp.graphics",
    "comp.os.ms-windows.misc",
    "comp.sys.ibm.pc.hardware",
    "comp.sys.mac.hardware",
    "comp.windows.x",
    "misc.forsale",
    "rec.autos",
    "rec.motorcycles",
    "rec.sport.baseball",
    "rec.sport.hockey",
    "sci.crypt",
    "sci.electronics",
    "sci.med",
    "sci.space",
    "soc.religion.christian",
    "talk.politics.guns",
    "talk.politics.mideast",
    "talk.politics.misc",
    "talk.religion.misc",
)
"""Folders of each part; the class is the position."""
PERCENT = (75, 15, 10)
"""Train, validation and KD shares of the official training part. The authors' reference settings."""


def info(settings: NewsgroupsTask) -> TaskInfo:
    """Shapes and classes."""
    return TaskInfo(NAME, (settings.length,), len(GROUPS), (), (), settings.vocabulary)


def load(settings: NewsgroupsTask, may_download: bool) -> Splits:
    """Read both parts below `data_dir`.

    Raises:
        UserError: folders that are missing (exit code 2) or incomplete (3), or could not be downloaded (5); a tokenizer
            or snippets that are missing (2) or damaged (3).
    """
    try:
        check(settings)
    except UserError:
        if not may_download:
            raise
        _download(Path(settings.data_dir).expanduser())
        check(settings)
    (texts, labels), (test_texts, test_labels) = (
        _read(Path(settings.data_dir).expanduser() / part) for part in PARTS
    )
    parts = split_indices(len(texts), PERCENT)
    if settings.tokenizer_file is None:
        tokenizer = word_tokenizer((texts[index] for index in parts[0]), settings.vocabulary)
    else:
        tokenizer = file_tokenizer(settings.tokenizer_file, settings.vocabulary)
    official = _encoded(texts, labels, tokenizer, settings.length)
    train, validation, kd = (official.take(part) for part in parts)
    return Splits(
        train,
        validation,
        kd,
        test=_encoded(test_texts, test_labels, tokenizer, settings.length),
        snippets=_encoded(*snippets(settings.snippets), tokenizer, settings.length),
    )


def check(settings: NewsgroupsTask) -> None:
    """Look whether every group has posts in both parts, and whether tokenizer and snippets can be read.

    Raises:
        UserError: a folder or file that is missing (exit code 2), or empty or damaged (3).
    """
    snippets(settings.snippets)
    if settings.tokenizer_file is not None:
        file_tokenizer(settings.tokenizer_file, settings.vocabulary)
    root = Path(settings.data_dir).expanduser()
    for part in PARTS:
        if not (root / part).is_dir():
            raise UserError(
                f"task.data_dir: {shown(settings.data_dir)} lacks {part} of {TITLE}; add --download, or unpack "
                f"20news-bydate.tar.gz there; looked in {root.absolute()}"
            )
        for group in GROUPS:
            if not _has_posts(root / part / group):
                raise UserError(
                    f"task.data_dir: {part}/{group} has no posts; delete {part} and add --download; it lies in "
                    f"{root.absolute()}",
                    exit_code=ExitCode.CORRUPT,
                )


def snippets(file: str | None) -> tuple[list[str], NDArray[np.int64]]:
    """Texts and their classes from lines of group, tab, text; null = the file of this package.

    Raises:
        UserError: no such file (exit code 2), or a line of another form (3).
    """
    path = files("fedrevive.tasks") / "newsgroups_snippets.tsv" if file is None else Path(file).expanduser()
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(
            f"task.snippets: {shown(file)} does not exist; null takes the package's own"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"task.snippets: {shown(file)} cannot be read ({error})") from None
    texts, labels = [], []
    for number, line in enumerate(lines, start=1):
        group, tab, text = line.partition("\t")
        if not tab or group not in GROUPS or not text.strip():
            raise UserError(
                f"task.snippets: line {number} is not a group of {TITLE}, a tab and a text",
                exit_code=ExitCode.CORRUPT,
            )
        texts.append(text)
        labels.append(GROUPS.index(group))
    if not texts:
        raise UserError(
            f"task.snippets: {shown(file)} is empty; write a group, a tab and a text on each line"
        )
    return texts, np.array(labels, np.int64)


def _read(folder: Path) -> tuple[list[str], NDArray[np.int64]]:
    """Posts in the order of groups and file names, stripped, and their classes."""
    from sklearn.datasets import load_files
    from sklearn.datasets._twenty_newsgroups import (
        strip_newsgroup_footer,
        strip_newsgroup_header,
        strip_newsgroup_quoting,
    )

    posts = load_files(folder, categories=list(GROUPS), encoding="latin1", shuffle=False)
    texts = [
        strip_newsgroup_quoting(strip_newsgroup_footer(strip_newsgroup_header(post))) for post in posts.data
    ]
    return texts, np.asarray(posts.target, np.int64)


def _encoded(texts: list[str], labels: NDArray[np.int64], tokenizer: Tokenizer, length: int) -> Split:
    return Split(padded([tokenizer(text, length) for text in texts], length), labels)


def _has_posts(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(entry.is_file() for entry in entries)


def _download(root: Path) -> None:
    """Fetch and unpack the archive that scikit-learn names, once its digest is the published one."""
    from sklearn.datasets._twenty_newsgroups import ARCHIVE
    from torchvision.datasets.utils import download_url, extract_archive

    archive = root / ARCHIVE.filename
    download(lambda: download_url(ARCHIVE.url, str(root), ARCHIVE.filename), TITLE)
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != ARCHIVE.checksum:
        archive.unlink()
        raise UserError(
            f"--download: {ARCHIVE.filename} has SHA-256 {found[:16]}..., published {ARCHIVE.checksum[:16]}...; try "
            "again",
            exit_code=ExitCode.ENVIRONMENT,
        )
    extract_archive(str(archive), str(root))
    archive.unlink()

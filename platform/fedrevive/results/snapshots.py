"""Snapshots on disk: a JSON document that names, by sha256, every file needed to go on from one moment.

`snapshots/<number>.json` holds state, counters and the committed parts of every table; tensors lie in
content-addressed `blobs/<sha256>.safetensors`. The document carries its own checksum; a document counts
only if that and every file it names check out. A part is written under a hidden name and published
(renamed) once a document names it, so programs that read a table's folder never meet uncommitted rows.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrevive.results.files import commit_blob, commit_file, sha256_bytes, sha256_file
from fedrevive.results.tensors import Tensors, load_tensors, tensor_chunks
from fedrevive.settings.errors import ExitCode, UserError

SNAPSHOTS, BLOBS = "snapshots", "blobs"
BLOB_SUFFIX = ".safetensors"

_log = logging.getLogger(__name__)

_HEAD, _MIDDLE, _TAIL = b'{"sha256":"', b'","snapshot":', b"}\n"
_BODY = len(_HEAD) + 64 + len(_MIDDLE)


@dataclass(frozen=True)
class Snapshot:
    """Everything a run needs to go on."""

    arrivals: int
    """Uploads so far, accepted or rejected."""
    virtual_time: int
    """Virtual nanoseconds."""
    state: dict[str, Any]
    """JSON values with text keys: event queue, counters. Tuples come back as lists."""
    tensors: Tensors
    """Server state: little-endian numbers or bool, any shape."""
    base_models: dict[int, NDArray[np.float32]]
    """Arrivals, accepted or rejected -> server model [P + S] at that moment, for every job still out. One number
    never stands for two models within a run, so a model is written once and later snapshots refer to it."""


@dataclass(frozen=True)
class Part:
    """One committed Parquet file of a table."""

    table: str
    name: str
    rows: int
    bytes: int
    sha256: str

    def published(self, directory: Path) -> Path:
        """Path that readers of the folder see."""
        return directory / self.table / self.name

    def hidden(self, directory: Path) -> Path:
        """Path before the document that names the part is committed; Parquet readers skip leading dots."""
        return directory / self.table / f".{self.name}"


@dataclass(frozen=True)
class Document:
    """Content of one snapshot file."""

    number: int
    arrivals: int
    virtual_time: int
    state: dict[str, Any]
    tensors: str
    """sha256 of the blob."""
    base_models: dict[int, str]
    """Arrivals, accepted or rejected -> sha256 of the blob."""
    parts: tuple[Part, ...]

    @property
    def blobs(self) -> set[str]:
        """sha256 of every blob it names."""
        return {self.tensors, *self.base_models.values()}

    def commit(self, directory: Path) -> None:
        """Write the document: the moment the snapshot starts to exist."""
        content = {**vars(self), "parts": [vars(part) for part in self.parts]}  # asdict would copy the state
        body = json.dumps(content, separators=(",", ":")).encode()
        commit_file(document_path(directory, self.number), _signed(body))

    def load(self, directory: Path) -> Snapshot:
        """Read the blobs back."""
        return Snapshot(
            arrivals=self.arrivals,
            virtual_time=self.virtual_time,
            state=self.state,
            tensors=load_tensors(blob_path(directory, self.tensors)),
            base_models={
                arrivals: load_tensors(blob_path(directory, digest))["model"]
                for arrivals, digest in self.base_models.items()
            },
        )


def document_path(directory: Path, number: int) -> Path:
    """File of the `number`-th snapshot."""
    return directory / SNAPSHOTS / f"{number:08d}.json"


def blob_path(directory: Path, digest: str) -> Path:
    """File of the blob with this sha256."""
    return directory / BLOBS / f"{digest}{BLOB_SUFFIX}"


def write_blobs(directory: Path, snapshot: Snapshot, known: dict[int, str]) -> tuple[str, dict[int, str]]:
    """Write the tensors and every base model that is not `known` yet; returns their sha256."""
    tensors = commit_blob(directory / BLOBS, BLOB_SUFFIX, tensor_chunks(snapshot.tensors))
    models = {
        arrivals: known.get(arrivals)
        or commit_blob(directory / BLOBS, BLOB_SUFFIX, tensor_chunks({"model": model}))
        for arrivals, model in snapshot.base_models.items()
    }
    return tensors, models


def documents(directory: Path) -> Iterator[Document]:
    """Undamaged documents, newest first, without a look at the files they name."""
    for path in document_files(directory):
        raw = path.read_bytes()
        body = raw[_BODY : -len(_TAIL)]
        if raw != _signed(body):
            continue
        content = json.loads(body)
        content["parts"] = tuple(Part(**part) for part in content["parts"])
        content["base_models"] = {int(key): digest for key, digest in content["base_models"].items()}
        yield Document(**content)


def document_files(directory: Path) -> list[Path]:
    """Snapshot files, newest first."""
    return sorted((directory / SNAPSHOTS).glob("[0-9]*.json"), reverse=True)


def intact_documents(directory: Path, limit: int) -> list[Document]:
    """The newest `limit` documents that are undamaged and whose every file has the right content, newest first.

    Raises:
        UserError: exit code 3, there are snapshots but none is intact.
    """
    files = document_files(directory)
    intact = list(islice((d for d in documents(directory) if _is_complete(directory, d)), limit))
    if files and not intact:
        raise no_intact_snapshot(files[0])
    if files and files[0] != document_path(directory, intact[0].number):
        _log.warning("%s: damaged; going on from arrival %d", files[0], intact[0].arrivals)
    return intact


def no_intact_snapshot(newest: Path) -> UserError:
    """The error for a run folder whose snapshots are all damaged."""
    return UserError(
        f"{newest}: it or a file that it names is damaged, and so is every older one; fsck names the file, run the "
        "experiment again in a new folder",
        exit_code=ExitCode.CORRUPT,
    )


def _is_complete(directory: Path, document: Document) -> bool:
    return all(_matches(blob_path(directory, digest), digest) for digest in document.blobs) and all(
        _matches(part.published(directory), part.sha256) or _matches(part.hidden(directory), part.sha256)
        for part in document.parts
    )


def _matches(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_file(path) == digest


def _signed(body: bytes) -> bytes:
    return _HEAD + sha256_bytes(body).encode() + _MIDDLE + body + _TAIL

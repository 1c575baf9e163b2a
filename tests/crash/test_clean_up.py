"""What a store leaves behind when it is interrupted is invisible to readers, and gone after the next start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedrevive.results import RunStore, Snapshot
from fedrevive.results.files import is_temporary
from fedrevive.results.fsck import check_folder
from fedrevive.results.snapshots import Document
from fedrevive.settings.errors import UserError

MANIFEST = {"run_id": "0123456789abcdef", "config": {}}
ROW = {"sequence": 0, "virtual_time": 0, "kind": "nan", "reason": "x"}


def listing(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_temporary_files_anywhere_go_at_the_next_start(tmp_path):
    RunStore.open(tmp_path / "run", manifest=MANIFEST).close()
    before = listing(tmp_path / "run")
    for name in (".", "arrivals", "timings", "snapshots", "blobs"):
        (tmp_path / "run" / name / ".x.1.abcd.tmp").write_bytes(b"half")
    RunStore.open(tmp_path / "run", manifest=MANIFEST).close()
    assert listing(tmp_path / "run") == before


def test_rows_of_a_commit_that_failed_are_seen_by_nobody(tmp_path, monkeypatch):
    def refuse(self: Document, directory: Path) -> None:
        raise OSError(28, "No space left on device")

    with RunStore.open(tmp_path / "run", manifest=MANIFEST) as store:
        store.append("events", [ROW])
        with monkeypatch.context() as patch:
            patch.setattr(Document, "commit", refuse)
            with pytest.raises(
                UserError, match="No space left on device; nothing that was saved is lost"
            ) as caught:
                store.commit(Snapshot(0, 0, {}, {"x": np.zeros(1)}, {}))
        assert caught.value.exit_code == 5
    visible = [path for path in (tmp_path / "run" / "events").iterdir() if not path.name.startswith(".")]
    assert visible == []
    assert check_folder(tmp_path / "run").problems == []
    RunStore.open(tmp_path / "run", manifest=MANIFEST).close()
    assert not [path for path in (tmp_path / "run").rglob(".*") if path.name.endswith(".parquet")]
    assert not [path for path in (tmp_path / "run").rglob(".*") if is_temporary(path.name)]
    assert list((tmp_path / "run" / "blobs").iterdir()) == []

"""Results on disk: schemas, crash-safe run folder, tables, statistics, figures. Imports neither torch nor
ray."""

from fedrevive.results.reading import read_table
from fedrevive.results.snapshots import Snapshot
from fedrevive.results.store import RunStore

__all__ = ["RunStore", "Snapshot", "read_table"]

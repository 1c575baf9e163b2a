"""Imported before any test module here, so that Ray finds the environment our runtime sets for it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import fedrevive.runtime  # noqa: F401

# isort: split
import pytest

from fedrevive.runtime.lane import Lane
from fedrevive.runtime.session import ray_session

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[int, Lane]]:
    with ray_session(cpus=4, gpus=0, object_store_bytes=0):
        lanes = {workers: Lane(workers, gpu=0) for workers in (1, 2)}
        yield lanes

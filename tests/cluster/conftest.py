"""Imported before any test module here, so that Ray finds the environment our runtime sets for it."""

import sys
from pathlib import Path

import fedrevive.runtime  # noqa: F401

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "crash"))  # how it finds processes of Ray

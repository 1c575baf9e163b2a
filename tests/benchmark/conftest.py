"""Imported before any test module here, so that Ray finds the environment our runtime sets for it."""

import fedrevive.runtime  # noqa: F401

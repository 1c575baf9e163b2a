"""`python -m fedrevive` and the `fedrevive` command."""

from __future__ import annotations

import sys
from io import TextIOWrapper

from fedrevive.cli.app import run_app


def main() -> None:
    """Entry point of the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a table must not fail on a terminal without its characters
    sys.exit(run_app(sys.argv[1:]))


if __name__ == "__main__":
    main()

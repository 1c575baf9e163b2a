"""`python -m fedrevive` and the `fedrevive` command."""

from __future__ import annotations

import sys

from fedrevive.cli.app import run_app


def main() -> None:
    """Entry point of the command line."""
    sys.exit(run_app(sys.argv[1:]))


if __name__ == "__main__":
    main()

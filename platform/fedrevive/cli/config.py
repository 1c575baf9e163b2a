"""`fedrevive config`."""

from __future__ import annotations

from typing import Annotated

import typer


def config(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PRESET|FILE] [a.b=c ...]", help="A preset's name or a YAML file, then overrides."
        ),
    ] = None,
) -> None:
    """Print a configuration in full, as YAML.

    Every default is written out; the text loads back: fedrevive config digits seed=3
    """
    from fedrevive.settings.identity import dump_yaml
    from fedrevive.settings.loading import load, split_words

    typer.echo(dump_yaml(load(*split_words(arguments or ()))), nl=False)

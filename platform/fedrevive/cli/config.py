"""`fedrevive config`."""

from __future__ import annotations

import typer

from fedrevive.cli.run import Arguments, configuration


def config(arguments: Arguments = None) -> None:
    """Print a configuration in full, as YAML.

    Every default is written out, and the text loads back.

    Example: fedrevive config digits seed=3 > my.yaml
    """
    from fedrevive.settings.identity import dump_yaml

    typer.echo(dump_yaml(configuration(arguments)), nl=False)

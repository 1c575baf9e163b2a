"""`fedrevive replay`: another algorithm on the arrivals of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedrevive.cli.option_values import usable_path
from fedrevive.cli.run import (
    DownloadOption,
    ExecutorOption,
    JsonOption,
    OutputOption,
    WorkersOption,
    carry_out,
    compute_flags,
)
from fedrevive.settings.draft import Setting
from fedrevive.settings.errors import UserError, shown
from fedrevive.settings.loading import parse_override, split_words

Changes = Annotated[
    list[str] | None,
    typer.Argument(metavar="a.b=c ...", help="What to change, such as algorithm.name=fedbuff."),
]


def replay(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of a finished run.", callback=usable_path)
    ],
    changes: Changes = None,
    executor: ExecutorOption = None,
    workers: WorkersOption = None,
    output: OutputOption = None,
    download: DownloadOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run another algorithm on exactly the uploads that a finished run recorded.

    Everything else stays as it was recorded; a change that would move the arrivals is refused.

    Example: fedrevive replay results/digits-0123456789abcdef algorithm.name=fedbuff server.lr=0.02
    """
    source, overrides = split_words(changes or [])
    if source is not None:
        raise UserError(f"{shown(source)}: not an override; replay takes the experiment from DIR")
    if not overrides:
        raise UserError("replay: nothing to change; name another algorithm, such as algorithm.name=fedbuff")
    typed = [parse_override(text) for text in overrides]
    flags = compute_flags(executor, workers) | ({} if output is None else {"output": output})
    typed += [Setting(path, value) for path, value in flags.items()]

    from fedrevive.cli import preflight
    from fedrevive.cli.execution import open_run
    from fedrevive.replay import read_recording, replayed_config
    from fedrevive.settings.identity import run_id

    config = replayed_config(read_recording(directory), typed)
    folder = Path(config.output) if config.output else Path("results") / f"{config.name}-{run_id(config)}"
    given = preflight.offer(None)
    with open_run(config, folder, download=download, given=given) as store:
        carry_out(config, store, given, download=download, as_json=as_json)

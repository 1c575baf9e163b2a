"""Checks of option values that no configuration section makes: paths and counts."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import typer

from fedrevive.settings.errors import UserError, shown
from fedrevive.settings.section import PathText, Section
from fedrevive.settings.validation import validated
from fedrevive.settings.yaml_reader import read_scalar

Given = TypeVar("Given", str, Path, None)


class _Named(Section):
    path: PathText


def usable_path(parameter: typer.CallbackParam, given: Given) -> Given:
    """A path as typed, for `callback=`.

    Raises:
        UserError: empty, too long for any file system, or with control characters.
    """
    if given is not None:
        name = "DIR" if parameter.param_type_name == "argument" else max(parameter.opts, key=len)
        try:
            validated({"path": str(given)}, {}, _Named)
        except UserError as error:
            raise UserError(f"{name}: {error.message.removeprefix('path: ')}") from None
    return given


def count(text: str) -> int:
    """A number of things, for `parser=`.

    Raises:
        typer.BadParameter: not an integer >= 1 as a configuration file would have it.
    """
    return _integer(text, 1)


def natural(text: str) -> int:
    """A number of things that may be none, for `parser=`.

    Raises:
        typer.BadParameter: not an integer >= 0 as a configuration file would have it.
    """
    return _integer(text, 0)


def seed(text: str) -> int:
    """A seed, for `parser=`.

    Raises:
        typer.BadParameter: not an integer >= 0 as a configuration file would have it.
    """
    return _integer(text, 0)


def _integer(text: str, least: int) -> int:
    try:
        number = read_scalar(text)
    except UserError as error:
        raise typer.BadParameter(error.message) from None
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise typer.BadParameter(f"{shown(text)} is not an integer >= {least}")
    return number

"""A study: the same competitors in several settings, written down in one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from fedrevive.settings.errors import UserError, did_you_mean, shown
from fedrevive.settings.experiment import NAME_PATTERN
from fedrevive.settings.loading import file_content
from fedrevive.settings.section import Section
from fedrevive.settings.validation import validated
from fedrevive.settings.yaml_reader import read

STUDIES = Path(__file__).resolve().parents[1] / "studies"


class StudySettings(Section):
    """What `fedrevive study` carries out: one comparison per setting."""

    name: str = Field(pattern=NAME_PATTERN)
    """Name of the study."""
    common: Annotated[str, Field(max_length=10_000)] = ""
    """Overrides for every setting, as on the command line."""
    settings: dict[Annotated[str, Field(pattern=NAME_PATTERN)], str] = Field(min_length=1)
    """Name -> preset or file and overrides, as on the command line. The name becomes a folder."""
    algorithms: tuple[str, ...] = Field(min_length=1)
    """Competitors, as in `compare --algorithms`."""
    controls: tuple[str, ...] = ()
    """Variants of a competitor, as in `compare --controls`."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    """One timeline each; grids are selected on the first."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for field in ("algorithms", "controls", "seeds"):
            if repeated := _repeated(getattr(self, field)):
                raise ValueError(f"{field}: {shown(repeated[0])} is named twice")
        return self


def study_names() -> tuple[str, ...]:
    """Names of the studies that come with the package."""
    return tuple(sorted(path.stem for path in STUDIES.glob("*.yaml")))


def load_study(source: str) -> StudySettings:
    """Read a study.

    Args:
        source: name of a study, or path of a file (it holds a slash or ends in .yaml or .yml).

    Raises:
        UserError: no such study, or the first problem in it.
    """
    is_file = "/" in source or source.endswith((".yaml", ".yml"))
    if not is_file and source not in study_names():
        hint = did_you_mean(source, study_names()) or f"; known: {', '.join(study_names())}"
        raise UserError(f"{shown(source)}: no such study (a file has a slash or ends in .yaml){hint}")
    path = Path(source) if is_file else STUDIES / f"{source}.yaml"
    values, lines = read(file_content(path), str(path) if is_file else f"study {source}")
    return checked_study(values, {dotted: f"line {line} of {source}" for dotted, line in lines.items()})


def checked_study(values: Mapping[str, Any], places: Mapping[str, str]) -> StudySettings:
    """A study from raw values.

    Args:
        values: as a YAML or JSON file has them.
        places: field -> where it was written.

    Raises:
        UserError: the first problem.
    """
    listed = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return validated(listed, places, StudySettings)


def _repeated(values: Iterable[object]) -> list[object]:
    listed = list(values)
    return [value for value in listed if listed.count(value) > 1]

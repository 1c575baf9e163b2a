"""From what a user typed (a preset or file, overrides, options) to one checked `ExperimentConfig`."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from fedrevive.settings.draft import Draft, Setting, flattened
from fedrevive.settings.errors import ExitCode, UserError, did_you_mean, shown
from fedrevive.settings.experiment import ExperimentConfig
from fedrevive.settings.sections import SectionField, section_field
from fedrevive.settings.trace_digest import with_digest
from fedrevive.settings.validation import validated
from fedrevive.settings.yaml_reader import MAX_BYTES, read, read_scalar

PRESETS = Path(__file__).resolve().parents[1] / "presets"
_OVERRIDE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)=(.*)", re.ASCII | re.DOTALL)
_NEXT_OVERRIDE = re.compile(r":(?=[A-Za-z_][\w.]*=)", re.ASCII)


def load(
    source: str | None, overrides: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> ExperimentConfig:
    """The configuration of one experiment.

    Later wins: the fields' defaults, the file, the file's `per_algorithm` section of the chosen algorithm, overrides
    together with flags. A different kind (`task.name`, `delays.kind`, `algorithm.beta.family`, ...) drops what came
    before for that section, wherever it stands among the overrides.

    Args:
        source: name of a preset, or path of a file (it holds a slash or ends in .yaml or .yml); None = defaults only.
        overrides: `a.b=c` with c as in a YAML file; `null` clears an optional field.
        flags: dotted path -> value, from command-line options; None means not given.

    Raises:
        UserError: with the first problem; nothing has been read or made besides `source`.
    """
    typed = [parse_override(text) for text in overrides]
    typed += [Setting(path, value) for path, value in (flags or {}).items() if value is not None]
    return (read_source(source) if source is not None else Source()).config(typed)


@dataclass(frozen=True)
class Source:
    """A parsed experiment file or preset, from which any number of configurations is made."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    per_algorithm: dict[str, list[Setting]] = field(default_factory=dict)

    def config(self, typed: Sequence[Setting]) -> ExperimentConfig:
        """The configuration with `typed` settings laid over it, as `load` does. Raises `UserError` as `load`."""
        draft = Draft(deepcopy(self.values), dict(self.places))
        algorithm = _chosen_algorithm(draft, typed)
        draft.apply([algorithm, *self.per_algorithm.get(str(algorithm.value), ())])
        draft.apply(typed)
        config = validated(draft.complete(), draft.places, ExperimentConfig)
        return with_digest(config, draft.places.get("delays.path", ""))


def read_source(source: str) -> Source:
    """The experiment behind a preset's name or a file's path. Raises `UserError` as `load`."""
    return parsed_source(*source_content(source))


def source_content(source: str) -> tuple[bytes, str]:
    """Content of a preset or file, and how it is called in errors. Raises `UserError` as `load`."""
    if not is_file(source) and source not in preset_names():
        hint = did_you_mean(source, preset_names()) or f"; known: {', '.join(preset_names())}"
        raise UserError(f"{shown(source)}: no such preset (a file has a slash or ends in .yaml){hint}")
    path = Path(source) if is_file(source) else PRESETS / f"{source}.yaml"
    return file_content(path), source if is_file(source) else f"preset {source}"


def parsed_source(content: bytes, name: str) -> Source:
    """Parse what `source_content` gave. Raises `UserError` for what the YAML rules refuse."""
    values, lines = read(content, name)
    places = {dotted: f"line {line} of {name}" for dotted, line in lines.items()}
    variants = values.pop("per_algorithm", {})
    return Source(values, places, _per_algorithm(variants, places))


def is_file(source: str) -> bool:
    """Whether `source` means a file rather than a name that comes with the package."""
    return "/" in source or source.endswith((".yaml", ".yml"))


def with_compute(values: Mapping[str, Any], flags: Mapping[str, Any]) -> ExperimentConfig:
    """A stored experiment, computed elsewhere.

    Args:
        values: a configuration as a manifest holds it.
        flags: dotted paths below `compute.` -> value.

    Raises:
        UserError: a value that is not allowed, also in a manifest of another version.
    """
    draft = Draft(deepcopy(dict(values)))
    draft.apply(Setting(path, value) for path, value in flags.items())
    return validated(draft.values, {}, ExperimentConfig)


def parse_override(text: str) -> Setting:
    """Split and read one `a.b=c`.

    Raises:
        UserError: not of this form, or a value the YAML rules refuse.
    """
    match = _OVERRIDE.fullmatch(text)
    if match is None:
        raise UserError(f"{shown(text)}: not an override; write path=value, such as server.lr=0.1")
    path, value = match.groups()
    if not value.strip():
        raise UserError(f"{path}: no value after '='; write null to clear a field")
    try:
        return Setting(path, read_scalar(value))
    except UserError as error:
        raise UserError(f"{path}: {error.message}") from None


def split_words(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Separate `[PRESET|FILE] [a.b=c ...]`, in any order.

    Raises:
        UserError: more than one preset or file.
    """
    overrides = [word for word in words if _OVERRIDE.fullmatch(word)]
    sources = [word for word in words if not _OVERRIDE.fullmatch(word)]
    if len(sources) > 1:
        raise UserError(
            f"{shown(sources[1])}: a second preset or file after {shown(sources[0])}; an override is path=value"
        )
    return (sources[0] if sources else None), overrides


def variant(spec: str) -> tuple[str, tuple[str, ...]]:
    """Read one competitor of a comparison, `fedbuff:server.lr=0.1:teacher_capacity=4`.

    Args:
        spec: an algorithm's name and its overrides, separated by colons; a path whose first word is no field of the
            configuration is meant below `algorithm.`.

    Returns:
        The algorithm's name and full overrides for `load` (without `algorithm.name`).

    Raises:
        UserError: unknown algorithm, or a part that is no override.
    """
    name, *parts = _NEXT_OVERRIDE.split(spec)
    if name not in algorithm_names():
        raise UserError(f"{shown(name)}: {_no_such_algorithm(name)}")
    return name, tuple(part if _root_field(part) else f"algorithm.{part}" for part in parts)


def grid(overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """Every combination of a competitor's overrides whose value is a list `a/b/c`, in order; [()] becomes [()].

    Args:
        overrides: second value of `variant`.
    """
    choices = []
    for override in overrides:
        path, _, values = override.partition("=")
        choices.append([f"{path}={value}" for value in values.split("/")])
    return list(product(*choices))


def algorithm_names() -> tuple[str, ...]:
    """Names `algorithm.name` can take."""
    return tuple(_algorithm_field().kinds)


def preset_names() -> tuple[str, ...]:
    """Names of the presets that come with the package."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.yaml")))


def _root_field(override: str) -> bool:
    return re.split(r"[.=]", override, maxsplit=1)[0] in ExperimentConfig.model_fields


def _no_such_algorithm(name: str) -> str:
    hint = did_you_mean(name, algorithm_names())
    return f"no such algorithm; known: {', '.join(algorithm_names())}{hint}"


def _chosen_algorithm(draft: Draft, typed: Sequence[Setting]) -> Setting:
    """The user's algorithm, else the file's, else the default."""
    given = {s.path: s for setting in typed for s in flattened(setting)}
    if "algorithm.name" in given:
        return given["algorithm.name"]
    kind = _algorithm_field().kind_of(draft.values.get("algorithm"))
    return Setting("algorithm.name", kind, draft.places.get("algorithm.name", ""))


def _algorithm_field() -> SectionField:
    field = section_field(ExperimentConfig, "algorithm")
    assert field is not None
    return field


def file_content(path: Path) -> bytes:
    """The bytes of a file a user named, one more than allowed if it is too large.

    Raises:
        UserError: it is not there or cannot be read.
    """
    shown_path = shown(str(path))
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UserError(f"{shown_path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{shown_path}: a folder; give a .yaml file") from None
    except ValueError:
        raise UserError(f"{shown_path}: not a file name") from None
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP):
            raise UserError(f"{shown_path}: no such file ({error.strerror})") from None
        message = f"{shown_path}: cannot be read ({error.strerror})"
        raise UserError(message, exit_code=ExitCode.ENVIRONMENT) from None


def _per_algorithm(variants: Any, places: Mapping[str, str]) -> dict[str, list[Setting]]:
    """The file's values that hold for one algorithm only, by its name."""
    if not isinstance(variants, dict):
        place = places.get("per_algorithm", "")
        raise UserError(f"per_algorithm: {shown(variants)} is not a mapping of algorithm names", place=place)
    found = {}
    for name, values in variants.items():
        where = f"per_algorithm.{name}"
        place = places.get(where, "")
        if name not in algorithm_names():
            raise UserError(f"{where}: {_no_such_algorithm(name)}", place=place)
        if not isinstance(values, dict):
            raise UserError(f"{where}: {shown(values)} is not a mapping of dotted paths", place=place)
        leaves = (leaf for path, value in values.items() for leaf in flattened(Setting(path, value)))
        found[name] = [leaf._replace(place=places.get(f"{where}.{leaf.path}", "")) for leaf in leaves]
        if any(setting.path == "algorithm.name" for setting in found[name]):
            raise UserError(f"{where}: algorithm.name cannot change here", place=place)
    return found

"""A configuration before validation: layers of dotted settings laid over a file's values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fedrevive.settings.errors import UserError
from fedrevive.settings.experiment import ExperimentConfig
from fedrevive.settings.section import Section
from fedrevive.settings.sections import SectionField, not_a_section, section_field


class Setting(NamedTuple):
    """One dotted path with its value."""

    path: str
    value: Any
    place: str = ""
    """Where it was written; empty for the command line."""


@dataclass
class Draft:
    """Nested raw values, and for the paths that come from a file the place where they stand."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def apply(self, settings: Iterable[Setting]) -> None:
        """Lay settings over the draft; the last one for a path wins.

        Discriminators go first, outer before inner: one that changes its section's kind empties that section. So the
        order in which a user types overrides does not matter, and only what he typed himself can be unknown.
        """
        last = {s.path: s for given in settings for s in flattened(given)}
        plain = []
        for setting in sorted(last.values(), key=lambda s: s.path.count(".")):
            *parents, name = setting.path.split(".")
            section = self._section(parents)
            if section is not None and section.discriminator == name:
                self._choose(parents, section, setting)
            else:
                plain.append(setting)
        for setting in plain:
            *parents, name = setting.path.split(".")
            self._write(self._opened(parents), name, setting)

    def complete(self) -> dict[str, Any]:
        """The values with every section's discriminator written out, the default kind where the user named none."""
        _complete(self.values, ExperimentConfig)
        return self.values

    def _choose(self, path: list[str], section: SectionField, setting: Setting) -> None:
        values = self._opened(path)
        if section.kind_of(values) != setting.value:
            values.clear()
            section_path = ".".join(path) + "."
            self.places = {
                p: place for p, place in self.places.items() if not f"{p}.".startswith(section_path)
            }
        self._write(values, str(section.discriminator), setting)

    def _write(self, values: dict[str, Any], name: str, setting: Setting) -> None:
        if setting.value == {} and isinstance(values.get(name), dict):
            return
        values[name] = setting.value
        self.places.pop(setting.path, None)
        if setting.place:
            self.places[setting.path] = setting.place

    def _opened(self, path: list[str]) -> dict[str, Any]:
        """The mapping at `path`, made where it is missing."""
        values = self.values
        for depth, name in enumerate(path, start=1):
            inner = values.setdefault(name, {})
            section = None if isinstance(inner, dict) else self._section(path[:depth])
            if inner is None and section is not None and section.optional:
                inner = values[name] = {}
            if not isinstance(inner, dict):
                dotted = ".".join(path[:depth])
                if section is None:
                    raise UserError(f"{dotted}: a single value; it has no fields below it")
                raise UserError(not_a_section(dotted, inner, section), place=self.places.get(dotted, ""))
            values = inner
        return values

    def _section(self, path: list[str]) -> SectionField | None:
        """The section at `path`, given the kinds chosen so far."""
        model: type[Section] | None = ExperimentConfig
        values: Any = self.values
        section: SectionField | None = None
        for name in path:
            section = section_field(model, name) if model is not None else None
            if section is None:
                return None
            values = values.get(name) if isinstance(values, dict) else None
            model = section.model_of(values)
        return section


def flattened(setting: Setting) -> Iterator[Setting]:
    """Split a mapping into one setting per leaf, so that `delays={kind: uniform}` equals `delays.kind=uniform`."""
    if not isinstance(setting.value, dict) or not setting.value:
        yield setting
        return
    for name, value in setting.value.items():
        yield from flattened(Setting(f"{setting.path}.{name}", value, setting.place))


def _complete(values: dict[str, Any], model: type[Section]) -> None:
    for name in model.model_fields:
        section, inner = section_field(model, name), values.get(name)
        if section is None or not isinstance(inner, dict):
            continue
        if section.discriminator is not None:
            inner.setdefault(section.discriminator, section.default)
        kind = section.model_of(inner)
        if kind is not None:
            _complete(inner, kind)

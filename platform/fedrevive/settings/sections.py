"""How the settings nest, read off the models: which fields hold a section and which kinds it can be."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from fedrevive.settings.errors import shown
from fedrevive.settings.section import Section


@dataclass(frozen=True)
class SectionField:
    """A field that holds a section."""

    discriminator: str | None
    """Name of the field that selects the kind; None when there is only one shape."""
    kinds: dict[str, type[Section]]
    """Kind -> model; a section without discriminator has the one kind ''."""
    default: str
    """Kind of the field's default."""
    optional: bool
    """Whether null is allowed: no section at all."""

    def kind_of(self, values: Any) -> Any:
        """The kind written in `values`, else the default; whatever the user wrote, so of any type."""
        if self.discriminator is None or not isinstance(values, dict):
            return self.default
        return values.get(self.discriminator, self.default)

    def model_of(self, values: Any) -> type[Section] | None:
        """The model that fits `values`; None for an unknown kind."""
        kind = self.kind_of(values)
        return self.kinds.get(kind) if isinstance(kind, str) else None


@functools.cache
def section_field(model: type[Section], name: str) -> SectionField | None:
    """The section behind field `name` of `model`; None for a plain value and for an unknown name."""
    info = model.model_fields.get(name)
    if info is None:
        return None
    candidates = get_args(info.annotation) or (info.annotation,)
    models = [c for c in candidates if inspect.isclass(c) and issubclass(c, Section)]
    if not models:
        return None
    selector = discriminator(models[0])
    kinds = {_kind(m, selector): m for m in models}
    default = _kind(type(info.get_default(call_default_factory=True)), selector)
    return SectionField(selector, kinds, default, optional=type(None) in candidates)


def not_a_section(path: str, value: Any, field: SectionField) -> str:
    """Error text for a plain value where a section belongs."""
    if field.discriminator is None:
        return (
            f"{path}: {shown(value)} is not a section; set its fields, such as {path}.{_first_field(field)}"
        )
    return f"{path}: {shown(value)} is not a section; set {path}.{field.discriminator}"


def _first_field(field: SectionField) -> str:
    return next(iter(field.kinds[field.default].model_fields))


def discriminator(model: type[Section]) -> str | None:
    """Name of the field that tells kinds apart: the one that can hold a single value."""
    for name, info in model.model_fields.items():
        if get_origin(info.annotation) is Literal and len(get_args(info.annotation)) == 1:
            return name
    return None


def _kind(model: type[Section], selector: str | None) -> str:
    return "" if selector is None else str(get_args(model.model_fields[selector].annotation)[0])

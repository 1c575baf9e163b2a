"""From raw values to a checked model, and from pydantic's findings to our one-line errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fedrevive.settings.errors import UserError, did_you_mean, shown
from fedrevive.settings.section import Section
from fedrevive.settings.sections import SectionField, not_a_section, section_field

_TYPES = {
    "int_type": "an integer",
    "float_type": "a number",
    "string_type": "a text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
}
_BOUNDS = {
    "greater_than": "> {gt}",
    "greater_than_equal": ">= {ge}",
    "less_than": "< {lt}",
    "less_than_equal": "<= {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "string_too_short": "text of at least {min_length} character",
    "string_too_long": "text of at most {max_length} characters",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_unicode": "valid text",
    "finite_number": "a finite number",
}
_COUNTS = {
    "too_short": "at least {min_length}",
    "too_long": "at most {max_length}",
}
_NOT_FINITE = re.compile(r"[-+]?(nan|inf|infinity)", re.IGNORECASE)

Model = TypeVar("Model", bound=Section)


def validated(values: dict[str, Any], places: Mapping[str, str], root: type[Model], under: str = "") -> Model:
    """Check raw values.

    Args:
        values: nested values with every discriminator present.
        places: dotted path -> where it was written, for paths that come from a file.
        root: what they must fit: the experiment, or a file of another kind.
        under: dotted path at which the values stand in their file; empty for the whole file.

    Raises:
        UserError: the first problem, with the number of further ones.
    """
    try:
        return root.model_validate(values)
    except ValidationError as error:
        # A key that does not exist often explains why another one is missing, so it is said first.
        found = sorted(
            error.errors(include_url=False), key=lambda details: details["type"] != "extra_forbidden"
        )
    groups: dict[str, list[ErrorDetails]] = {}
    for details in found:  # the alternatives of one field are reported one by one
        groups.setdefault(_located(details["loc"], root, under).path, []).append(details)
    first = next(iter(groups.values()))
    message = _message(_located(first[0]["loc"], root, under), first, root)
    path = message.partition(":")[0]
    within = (
        place for key, place in places.items() if key.startswith(f"{path}.")
    )  # of a section that is unknown
    place = places.get(path) or next(within, "")
    raise UserError(message, place=place, more=len(groups) - 1) from None


class _Location(NamedTuple):
    path: str
    owner: type[Section]
    """Model that holds the field."""
    above: SectionField | None
    """How that model was chosen."""
    section: SectionField | None
    """The field itself, when it is a section."""
    name: str


def _located(loc: tuple[int | str, ...], root: type[Section], under: str) -> _Location:
    """Pydantic's location without the tags it adds for alternatives, `under` in front."""
    owner: type[Section] = root
    above: SectionField | None = None
    section: SectionField | None = None
    model: type[Section] | None = root
    names: list[str] = []
    remaining = [str(item) for item in loc]
    while remaining and model is not None:
        owner, above = model, section
        names.append(remaining.pop(0))
        section = section_field(owner, names[-1])
        if section is None:
            break
        kind = remaining.pop(0) if remaining and len(section.kinds) > 1 else section.default
        model = section.kinds.get(kind)
    path = ".".join([under, *names] if under and names else names)
    return _Location(path, owner, above, section, names[-1] if names else "")


def _message(at: _Location, errors: list[ErrorDetails], root: type[Section]) -> str:
    details = errors[0]
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "value_error":
        return f"{at.path}: {context['error']}" if at.path else str(context["error"])
    if kind == "missing":
        return f"{at.path}: missing; it has no default"
    if kind == "extra_forbidden":
        return _unknown_field(at, root)
    if kind.startswith("union_tag") and at.section is not None and isinstance(value, dict):
        known = at.section.kinds
        got = value.get(str(at.section.discriminator))
        return f"{at.path}.{at.section.discriminator}: {_one_of(got, known)}"
    if at.section is not None:
        return not_a_section(at.path, value, at.section)
    return f"{at.path}: {_leaf(at, value, errors)}"


def _unknown_field(at: _Location, root: type[Section]) -> str:
    if "." in at.name:
        return f"{at.path}: dotted names belong on the command line and in per_algorithm; nest them in a file"
    if at.above is not None and at.above.discriminator is not None:
        chosen = str(at.owner.model_fields[at.above.discriminator].default)
        having = [kind for kind, model in at.above.kinds.items() if at.name in model.model_fields]
        if having:
            section = at.path.rpartition(".")[0]
            verb = "has" if len(having) == 1 else "have"
            chosen = f"{section}.{at.above.discriminator}={chosen}"
            return f"{at.path}: not a field of {chosen}; {', '.join(having)} {verb} it"
    known = list(at.owner.model_fields)
    near = did_you_mean(at.name, known) or _meant_elsewhere(at.name, root)
    return f"{at.path}: unknown field{near or '; known: ' + ', '.join(known)}"


def _meant_elsewhere(name: str, root: type[Section]) -> str:
    """`; did you mean 'server.lr' or 'client.lr'?` for a name that exists in other sections."""
    paths = [path for path in dict.fromkeys(_paths(root)) if path.rpartition(".")[2] == name]
    return f"; did you mean {' or '.join(repr(path) for path in paths[:3])}?" if paths else ""


def _paths(model: type[Section], path: str = "") -> Iterator[str]:
    """Dotted paths of all fields below `model`, in every kind of its sections."""
    for name in model.model_fields:
        inner = f"{path}.{name}".lstrip(".")
        yield inner
        section = section_field(model, name)
        for kind in section.kinds.values() if section is not None else ():
            yield from _paths(kind, inner)


def _leaf(at: _Location, value: Any, errors: list[ErrorDetails]) -> str:
    annotation = at.owner.model_fields[at.name].annotation
    if get_origin(annotation) is Literal:
        return _one_of(value, map(str, get_args(annotation)))
    if errors[0]["type"] in _COUNTS:
        return _miscounted(errors[0])
    bounds = [_BOUNDS[e["type"]].format(**e.get("ctx", {})) for e in errors if e["type"] in _BOUNDS]
    types = [_TYPES[e["type"]] for e in errors if e["type"] in _TYPES]
    literals = [str(e["ctx"]["expected"]) for e in errors if e["type"] == "literal_error"]
    if bounds:
        return f"{shown(value)} is not allowed; must be {' or '.join(bounds + literals)}"
    return f"{shown(value)} is not {' or '.join(_finite(value, types) + literals)}{_unquoted(value, types)}"


def _finite(value: Any, types: list[str]) -> list[str]:
    """Not-a-number is no number, but a reader may call it one."""
    if isinstance(value, str) and _NOT_FINITE.fullmatch(value):
        return [name.replace("a number", "a finite number") for name in types]
    return types


def _unquoted(value: Any, types: list[str]) -> str:
    """A remedy for a number in quotes."""
    wanted = {"an integer", "a number"}.intersection(types)
    return "; write it without quotes" if wanted and isinstance(value, str) and value.isdecimal() else ""


def _miscounted(details: ErrorDetails) -> str:
    context = details["ctx"]
    return f"has {context['actual_length']} values; needs {_COUNTS[details['type']].format(**context)}"


def _one_of(value: Any, known: Iterable[str]) -> str:
    names = list(known)
    hint = did_you_mean(value, names) if isinstance(value, str) and value not in names else ""
    return f"{shown(value)} is not allowed; must be one of {', '.join(names)}{hint}"

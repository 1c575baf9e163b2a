"""Every field of a settings model with the JSON schema of its value: a new field is fuzzed without being listed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fedrevive.settings.section import Section
from fedrevive.settings.sections import section_field

UNDERSTOOD = {
    *("type", "enum", "const", "anyOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("pattern", "minLength", "maxLength", "items", "minItems", "maxItems", "minProperties", "maxProperties"),
    *("additionalProperties", "patternProperties", "title", "description", "default"),
}  # fmt: skip


@dataclass(frozen=True)
class Field:
    """A value a user can set."""

    path: str
    needs: tuple[tuple[str, str], ...]
    """Discriminator -> kind, outer before inner: what must be chosen for the field to exist."""
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class Level:
    """A section in one of its kinds."""

    path: str
    needs: tuple[tuple[str, str], ...]
    names: tuple[str, ...]


def fields(model: type[Section], path: str = "", needs: tuple[tuple[str, str], ...] = ()) -> Iterator[Field]:
    """Every plain value below `model`, in every kind that its sections can have."""
    schemas = model.model_json_schema()["properties"]
    for name in model.model_fields:
        inner = f"{path}.{name}".lstrip(".")
        section = section_field(model, name)
        if section is None:
            yield Field(inner, needs, schemas[name])
            continue
        if section.discriminator is not None:
            yield Field(f"{inner}.{section.discriminator}", needs, {"enum": list(section.kinds)})
        for kind, shape in section.kinds.items():
            chosen = (
                ((f"{inner}.{section.discriminator}", kind),) if section.discriminator is not None else ()
            )
            for field in fields(shape, inner, needs + chosen):
                if field.path != f"{inner}.{section.discriminator}":
                    yield field


def levels(model: type[Section], path: str = "", needs: tuple[tuple[str, str], ...] = ()) -> Iterator[Level]:
    """Every section below `model`, and `model` itself as the level ''."""
    yield Level(path, needs, tuple(model.model_fields))
    for name in model.model_fields:
        section = section_field(model, name)
        if section is None:
            continue
        inner = f"{path}.{name}".lstrip(".")
        for kind, shape in section.kinds.items():
            chosen = (
                ((f"{inner}.{section.discriminator}", kind),) if section.discriminator is not None else ()
            )
            yield from levels(shape, inner, needs + chosen)


def fits(schema: Mapping[str, Any], value: Any) -> bool:
    """Whether a value satisfies a JSON schema; written apart from the validation that is tested.

    A keyword that is not understood is an error, so that no constraint goes unnoticed.
    """
    assert schema.keys() <= UNDERSTOOD, f"the fuzz does not know {schema.keys() - UNDERSTOOD}"
    if "anyOf" in schema:
        return any(fits(each, value) for each in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        return any(
            type(value) is type(known) and value == known
            for known in schema.get("enum", [schema.get("const")])
        )
    return _of_type(schema["type"], value) and _within(schema, value)


def beyond(schema: Mapping[str, Any]) -> Iterator[Any]:
    """Values just outside every bound of a schema; some may be legal in another alternative."""
    for each in schema.get("anyOf", ()):
        yield from beyond(each)
    for known in [*schema.get("enum", ()), schema.get("const")]:
        if isinstance(known, str):
            yield from (known.upper(), known + "s", known[:-1], f" {known}")
        elif known is not None:
            yield from (known + 1, str(known))  # a choice of 32 takes 32.0 and stores 32
    step = 1 if schema.get("type") == "integer" else 1e-6
    for name, sign in (("minimum", -1), ("maximum", 1)):
        if name in schema:
            yield from (schema[name] + sign * max(step, abs(schema[name]) * 1e-6 * (step != 1)), sign * 1e300)
    for name in ("exclusiveMinimum", "exclusiveMaximum"):
        if name in schema:
            yield schema[name]
    if "multipleOf" in schema:
        yield schema["multipleOf"] + 1
    if schema.get("type") == "string":
        yield from (
            "",
            "x" * (schema.get("maxLength", 5000) + 1),
            "../../x",
            "/",
            "a\x00b",
            "a\nb",
            "\u202eab",
            "\ud800",
        )
    if schema.get("type") == "array":
        least, most = schema.get("minItems", 0), schema.get("maxItems", 3)
        yield from (
            [1] * max(0, least - 1),
            list(range(1, most + 2)),
            [None] * max(1, least),
            [[1]] * max(1, least),
        )


def _of_pattern(inner: Mapping[str, Any], key: str, value: Any) -> bool:
    return any(
        fits({"type": "string", "pattern": pattern}, key) and fits(schema, value)
        for pattern, schema in inner.items()
    )


def _of_type(kind: str, value: Any) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    types: dict[str, Any] = {
        "integer": int,
        "number": (int, float),
        "string": str,
        "boolean": bool,
        "null": type(None),
        "array": list,
        "object": dict,
    }
    return isinstance(value, types[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _within(schema: Mapping[str, Any], value: Any) -> bool:
    checks = {
        "minimum": lambda bound: value >= bound,
        "maximum": lambda bound: value <= bound,
        "exclusiveMinimum": lambda bound: value > bound,
        "exclusiveMaximum": lambda bound: value < bound,
        "multipleOf": lambda unit: value % unit == 0,
        "pattern": lambda pattern: re.search(pattern.replace("$", r"\Z"), value) is not None,
        "minLength": lambda least: len(value) >= least,
        "maxLength": lambda most: len(value) <= most,
        "minItems": lambda least: len(value) >= least,
        "maxItems": lambda most: len(value) <= most,
        "minProperties": lambda least: len(value) >= least,
        "items": lambda inner: all(fits(inner, item) for item in value),
        "additionalProperties": lambda inner: inner is True,
        "patternProperties": lambda inner: all(_of_pattern(inner, key, item) for key, item in value.items()),
    }
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        return False
    return all(check(schema[name]) for name, check in checks.items() if name in schema)

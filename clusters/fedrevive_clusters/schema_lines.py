"""What a JSON schema finds, as lines that name the field, the value and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from fedrevive.settings.errors import did_you_mean, shown

_TYPES = {
    "integer": "an integer",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}


def schema_lines(document: Any, schema: dict[str, Any], under: str = "") -> list[str]:
    """Every violation of a schema, one line each.

    Args:
        document: parsed YAML.
        schema: a JSON schema.
        under: dotted path at which the document stands.
    """
    from jsonschema.validators import validator_for

    validator = validator_for(schema)(schema)
    return [line for error in validator.iter_errors(document) for line in error_lines(error, under)]


def error_lines(error: Any, under: str = "") -> list[str]:
    """One finding of the jsonschema library; several lines for several unknown fields."""
    path = dotted([under, *error.absolute_path] if under else error.absolute_path)
    value, limit = error.instance, error.validator_value
    match error.validator:
        case "additionalProperties" | "unevaluatedProperties":
            return list(_unknown(error, path))
        case "required":
            missing = next(name for name in limit if name not in value)
            return [f"{_joined(path, missing)}: missing"]
        case "type":
            names = [limit] if isinstance(limit, str) else limit
            return [f"{path}: {shown(value)} is not {' or '.join(_TYPES[name] for name in names)}"]
        case "enum" | "const":
            known = limit if error.validator == "enum" else [limit]
            return [f"{path}: {shown(value)} is not allowed; must be {' or '.join(map(str, known))}"]
        case "minimum":
            return [f"{path}: {shown(value)} is not allowed; must be >= {limit}"]
        case "oneOf" | "anyOf" if error.context:
            return error_lines(max(error.context, key=lambda inner: len(inner.absolute_path)), under)
        case _:
            return [f"{path or 'the file'}: {error.message}"]


def dotted(parts: Iterable[str | int]) -> str:
    """`a.b[0].c`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")


def _unknown(error: Any, path: str) -> Iterator[str]:
    known = list(error.schema.get("properties", {}))
    patterns = error.schema.get("patternProperties", {})
    for name in error.instance:
        if name not in known and not any(re.search(pattern, name) for pattern in patterns):
            yield f"{_joined(path, name)}: unknown field{did_you_mean(str(name), known)}"


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else str(name)

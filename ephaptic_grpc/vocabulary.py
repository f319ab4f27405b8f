"""The keywords of JSON Schema (2020-12) that have a meaning here, and what their values are.

A contract from elsewhere may hold anything, and so may what a type says of itself.
"""

from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from typing import Any, Final, TypeGuard

DEFINITIONS: Final = "#/$defs/"
"""What a reference begins with; the rest is the name of a definition."""

ENUM_NAMES: Final = "x-enum-varnames"
"""The names of an enum's members, beside ``enum``, which has their values."""

FACTORY: Final = "x-default-factory"
"""``true`` of a field whose default only the server knows: who sends can leave it out, who gets it finds it there."""

ALIASES: Final = "x-aliases"
"""Of a field: other names that it is read by, beside the one under which it stands."""

BY_NAME: Final = ("properties", "patternProperties", "dependentSchemas", "$defs")
"""The keywords for schemas by name."""

UNIONS: Final = ("anyOf", "oneOf")
"""The keywords for schemas of which one describes the value."""

SEVERAL: Final = (*UNIONS, "allOf", "prefixItems")
"""The keywords for lists of schemas."""

ONE: Final = ("items", "additionalProperties", "propertyNames", "contains", "not", "unevaluatedProperties")
"""The keywords for one schema."""

DOCS: Final = ("title", "description", "examples", "deprecated", "$comment", ENUM_NAMES, FACTORY, ALIASES)
"""Keywords that describe, and ask nothing of a value."""

NUMBERS: Final = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf")
"""The keywords for numbers."""

COUNTS: Final = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
"""The keywords for lengths, of which there are never less than none."""


def misfits(schema: Mapping[str, Any]) -> Iterator[str]:
    """The keywords of a schema whose values they can't have; not of the schemas in it, beyond that they are some."""
    return (key for key, value in schema.items() if key in _FITS and not _FITS[key](value))


def _is_schema(value: object) -> bool:
    return isinstance(value, dict | bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _are_schemas(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_schema, value))


def _are_schemas_by_name(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_schema, value.values()))


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_integer(value) or (isinstance(value, float) and isfinite(value))


def _is_count(value: object) -> bool:
    return _is_integer(value) and value >= 0


def _is_type(value: Any) -> bool:
    return _is_text(value) or (_are_texts(value) and 0 < len(set(value)) == len(value))


def _tells_members(value: object) -> bool:
    if not isinstance(value, dict) or not _is_text(value.get("propertyName", "")):
        return False
    mapping = value.get("mapping", {})
    return isinstance(mapping, dict) and all(map(_is_text, mapping.values()))


_FITS: Final[dict[str, Callable[[object], bool]]] = {
    **dict.fromkeys(BY_NAME, _are_schemas_by_name),
    **dict.fromkeys(SEVERAL, _are_schemas),
    **dict.fromkeys(ONE, _is_schema),
    **dict.fromkeys(NUMBERS, _is_number),
    **dict.fromkeys(COUNTS, _is_count),
    **dict.fromkeys(("description", "format", "pattern", "$ref"), _is_text),
    **dict.fromkeys(("enum", ENUM_NAMES), _is_list),
    **dict.fromkeys(("required", ALIASES), _are_texts),
    "type": _is_type,
    "discriminator": _tells_members,
}

"""JSON Schemas as they are compared: the definitions of two contracts, and what a schema is at its surface."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ephaptic_grpc.codegen.annotations import Annotations
from ephaptic_grpc.schemas import Schema, malformed, reference, undescribed
from ephaptic_grpc.vocabulary import COUNTS, DEFINITIONS, DOCS, ENUM_NAMES, NUMBERS, UNIONS

_SILENT: Final = {*DOCS, "default", "readOnly", "writeOnly"} - {ENUM_NAMES}
"""Keywords that ask nothing of a value where they stand."""

_SHOWN_CHARACTERS: Final = 60


class Definitions:
    """The definitions of an old and a new contract, and which of them say the same.

    Args:
        old: by name.
        new: by name.
    """

    def __init__(self, old: Mapping[str, Schema], new: Mapping[str, Schema]) -> None:
        self.old = {name: schema for name, schema in old.items() if is_well_formed(schema)}
        self.new = {name: schema for name, schema in new.items() if is_well_formed(schema)}
        texts = {name: text(undescribed(schema)) for name, schema in self.new.items()}
        same = {name for name, schema in self.old.items() if texts.get(name) == text(undescribed(schema))}
        users: dict[str, set[str]] = {}
        for name in same:
            for other in _references(old[name]):
                users.setdefault(other, set()).add(name)
        changed = [name for name in users if name not in same]
        while changed:
            refer = users.get(changed.pop(), set()) & same
            same -= refer
            changed += refer
        self._same = same

    def same(self, old: object, new: object) -> bool:
        """Whether two schemas say the same, in all that they refer to."""
        # True == 1 in Python: hence the texts.
        return old == new and text(old) == text(new) and self._same.issuperset(_references(old))


def is_well_formed(schema: object) -> bool:
    """Whether something is a schema whose keywords have values that they can have, all the way down."""
    return isinstance(schema, dict) and not malformed(schema)


def text(value: object) -> str:
    """A value as JSON, the same for values that are the same."""
    return json.dumps(value, sort_keys=True)


def bare(schema: Any) -> Schema:
    """A schema without what asks nothing of a value; a union where it has several types."""
    if isinstance(schema, dict):
        asking = {key: value for key, value in schema.items() if key not in _SILENT}
        if isinstance(asking.get("type"), list):
            return {"anyOf": [{**asking, "type": kind} for kind in asking["type"]]}
        return asking
    return {} if schema is True else {"not": {}}


def asks_more(schema: Schema, *known: str) -> bool:
    """Whether a schema has keywords beyond its type and the ``known`` ones."""
    return bool(schema.keys() - {*_SILENT, ENUM_NAMES, "type", *known})


def resolved(schema: Any, names: Mapping[str, Schema]) -> Schema | None:
    """What a schema stands for; None where that can't be told."""
    found = bare(schema)
    met: set[str] = set()
    while (name := reference(found)) is not None:
        if name in met or name not in names or asks_more(found, "$ref"):
            return None
        met.add(name)
        found = bare(names[name])
    return found


def is_union(schema: Schema) -> bool:
    """Whether a schema is a union of others."""
    return any(key in schema for key in UNIONS)


def members(schema: Schema) -> list[Any] | None:
    """What a union is of, an enum being one of its values; None where a schema is no union."""
    for key in UNIONS:
        if key in schema:
            found: list[Any] = schema[key]
            return found
    listed = values(schema)
    if listed is None or len(listed) == 1:
        return None
    names = {ENUM_NAMES: schema[ENUM_NAMES]} if ENUM_NAMES in schema else {}
    return [{"const": value, **names} for value in listed]


def values(schema: Any) -> list[Any] | None:
    """The values that an enum or a constant can have; None where a schema is neither."""
    if not isinstance(schema, dict) or not ("const" in schema or "enum" in schema):
        return None
    found: list[Any] = [schema["const"]] if "const" in schema else schema["enum"]
    return found


def tags(schema: Schema) -> tuple[str, dict[str, str]] | None:
    """The field that tells the members of a union, and the reference that each of its values stands for; None where
    members are told otherwise.
    """
    told = schema.get("discriminator", {})
    return (told["propertyName"], told["mapping"]) if told.keys() >= {"propertyName", "mapping"} else None


def label(member: Any) -> str:
    """The step of a path into a member of a union: ``<Cat>``; empty where it has no name."""
    name = reference(member) if isinstance(member, dict) else None
    return "" if name is None else f"<{name}>"


def shown(schema: Any) -> str:
    """A schema in a few words: ``list[str]``, ``int (minimum 1)``, ``{name, age}``."""
    words = Annotations({}).of(schema)
    if isinstance(schema, dict):
        if "properties" in schema:
            words = f"{{{', '.join(schema['properties'])}}}"
        said = [f"{key} {schema[key]}" for key in ("pattern", *COUNTS, *NUMBERS) if key in schema]
        if words == "str" and "format" in schema:
            said.insert(0, schema["format"])
        words += f" ({', '.join(said)})" if said else ""
    return words if len(words) <= _SHOWN_CHARACTERS else words[: _SHOWN_CHARACTERS - 3] + "..."


def json_type(value: object) -> str:
    """The type of a JSON value, as JSON Schema calls it."""
    if isinstance(value, bool):
        return "boolean"
    names = {int: "integer", float: "number", str: "string", list: "array", dict: "object", type(None): "null"}
    return names[type(value)]


def _references(value: Any) -> Iterator[str]:
    """The names of all definitions that a schema refers to, in whatever keyword."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _references(item)
    elif isinstance(value, str) and value.startswith(DEFINITIONS):
        yield value.removeprefix(DEFINITIONS)

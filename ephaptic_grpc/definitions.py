"""JSON Schemas as they are compared: the definitions of two contracts, and what a schema is at its surface."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ephaptic_grpc.codegen.annotations import Annotations
from ephaptic_grpc.schemas import Schema, malformed, rebuilt, redirected, reference
from ephaptic_grpc.vocabulary import ALIASES, COUNTS, DEFINITIONS, DOCS, ENUM_NAMES, NUMBERS, UNIONS

_SILENT: Final = {*DOCS, "default", "readOnly", "writeOnly"} - {ENUM_NAMES}
"""Keywords that ask nothing of a value where they stand."""

_UNSAID: Final = {*DOCS} - {ALIASES, ENUM_NAMES}
"""Keywords that say nothing of a value, nor of how it is read."""

_SHOWN_CHARACTERS: Final = 60

_Pair = tuple[str, str]


class Definitions:
    """The definitions of an old and a new contract, and which of them say the same, whatever their names.

    Args:
        old: by name.
        new: by name.
    """

    def __init__(self, old: Mapping[str, Schema], new: Mapping[str, Schema]) -> None:
        self.old = {name: schema for name, schema in old.items() if is_well_formed(schema)}
        self.new = {name: schema for name, schema in new.items() if is_well_formed(schema)}
        self._old_forms = {name: _form(schema) for name, schema in self.old.items()}
        self._new_forms = {name: _form(schema) for name, schema in self.new.items()}
        self._same: dict[_Pair, bool] = {}

    def same(self, old: Schema, new: Schema) -> bool:
        """Whether two schemas say the same, in all that they refer to; not what their types are called."""
        if old.keys() != new.keys():
            return False
        (was, before), (is_now, after) = _form(old), _form(new)
        return was == is_now and all(map(self._are_same, zip(before, after, strict=True)))

    def look_alike(self, old: Schema, new: Schema) -> bool:
        """Whether two schemas are the same in a few words, but for names that the other contract doesn't have."""

        def shared(name: str) -> str:
            return name if name in self.old and name in self.new else ""

        was, is_now = (sorted(shown(redirected(schema, shared)).split(" | ")) for schema in (old, new))
        return was == is_now

    def _are_same(self, pair: _Pair) -> bool:
        """Whether an old and a new type say the same: so do all pairs that they refer to, until one doesn't."""
        if pair not in self._same:
            found: dict[_Pair, bool] = {}
            users: dict[_Pair, list[_Pair]] = {}
            waiting = [pair]
            while waiting:
                one = waiting.pop()
                if one in found or one in self._same:
                    continue
                was, is_now = self._old_forms.get(one[0]), self._new_forms.get(one[1])
                found[one] = was is not None and is_now is not None and was[0] == is_now[0]
                if was is not None and is_now is not None and found[one]:
                    for part in zip(was[1], is_now[1], strict=True):
                        users.setdefault(part, []).append(one)
                        waiting.append(part)
            differing = [one for one in {*found, *users} if not found.get(one, self._same.get(one))]
            while differing:
                for user in users.get(differing.pop(), ()):
                    if found[user]:
                        found[user] = False
                        differing.append(user)
            self._same |= found
        return self._same[pair]


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


def aliases(field: Any) -> list[str]:
    """The other names that a field is read by, given its schema."""
    found: list[str] = field.get(ALIASES, []) if isinstance(field, dict) else []
    return found


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


def _form(schema: Schema) -> tuple[str, list[str]]:
    """What a schema says but for the names of what it refers to, and those names, in an order of their places."""
    said = rebuilt(schema, lambda part: {key: value for key, value in part.items() if key not in _UNSAID})
    return text(redirected(said, lambda name: "")), list(_references(said))  # noqa: ARG005


def _references(value: Any) -> Iterator[str]:
    """The names of all definitions that a schema refers to, in whatever keyword, by the order of their keys."""
    if isinstance(value, dict):
        value = [value[key] for key in sorted(value)]
    if isinstance(value, list):
        for item in value:
            yield from _references(item)
    elif isinstance(value, str) and value.startswith(DEFINITIONS):
        yield value.removeprefix(DEFINITIONS)

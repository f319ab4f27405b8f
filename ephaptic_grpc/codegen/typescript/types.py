"""TypeScript's types for JSON Schemas: ``{ [key: string]: User | null }``."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ephaptic_grpc.contract import Contract
from ephaptic_grpc.schemas import Schema, Way, reached, rebuilt, reference
from ephaptic_grpc.vocabulary import FACTORY

_SCALARS: Final = {"integer": "number", "number": "number", "boolean": "boolean", "null": "null", "string": "string"}
_IDENTIFIER: Final = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)
_LARGEST_SAFE: Final = 2**53 - 1

_IN: Final[Way] = "validation"
_OUT: Final[Way] = "serialization"


class Types:
    """The types of a contract.

    A field with a default can be left out of what is sent, and is always there in what comes back. A definition of
    which this makes two goes by two names: its own as it comes back, and one with ``Input``.

    Args:
        contract: whose definitions are declared.
        taken: names that mean something else in the module.
    """

    def __init__(self, contract: Contract, taken: Iterable[str]) -> None:
        self._definitions = contract.definitions
        got = (function.value for function in contract.functions)
        ways = {_IN: contract.sent(), _OUT: reached(got, contract.definitions)}
        used = set(taken)
        self._names: dict[tuple[str, Way], str] = {}
        for name in contract.definitions:
            plain = unique(_type_name(name), used)
            both = name in ways[_IN] and name in ways[_OUT] and self._has_defaults(name)
            self._names[name, _OUT] = plain
            self._names[name, _IN] = unique(f"{plain}Input", used) if both else plain
        self._ways = ways

    def of(self, schema: object, way: Way) -> str:
        """The type of what a schema describes; ``unknown`` where it says nothing that TypeScript could."""
        if not isinstance(schema, dict):
            return "never" if schema is False else "unknown"
        name = reference(schema)
        if name is not None:
            return self._names.get((name, way), "unknown")
        if "const" in schema:
            return _literals([schema["const"]])
        if "enum" in schema:
            return _literals(schema["enum"])
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return _united(self.of(option, way) for option in schema[key])
        if "allOf" in schema:
            return " & ".join(grouped(self.of(part, way)) for part in schema["allOf"])
        kind = schema.get("type")
        if isinstance(kind, list):
            return _united(self.of({**schema, "type": one}, way) for one in kind)
        if kind == "array":
            return self._array(schema, way)
        if kind == "object":
            return self._object(schema, way)
        return _SCALARS.get(kind, "unknown") if isinstance(kind, str) else "unknown"

    def declarations(self) -> Iterator[str]:
        """The lines that declare every definition, each after an empty one."""
        for name, schema in self._definitions.items():
            for way in (_OUT,) if self._names[name, _IN] == self._names[name, _OUT] else (_OUT, _IN):
                one = way if name in self._ways[way] else _IN  # of what is only sent, the form that is sent
                yield from ("", *jsdoc(schema.get("description", "")))
                called = self._names[name, way]
                if schema.get("type") == "object" and schema.get("properties"):
                    yield f"export interface {called} {{"
                    yield from (f"  {line}" for line in self._members(schema, one, docs=True))
                    yield "}"
                else:
                    yield f"export type {called} = {self.of(schema, one)};"

    def _object(self, schema: Schema, way: Way) -> str:
        if schema.get("properties"):
            return f"{{ {' '.join(self._members(schema, way, docs=False)).rstrip(';')} }}"
        patterns = schema.get("patternProperties")
        values = patterns.values() if patterns else [schema.get("additionalProperties", True)]
        value = _united(self.of(one, way) for one in values)
        keys = self.of(schema["propertyNames"], way) if "propertyNames" in schema else "string"
        if keys not in ("string", "unknown"):
            return f"{{ [key in {keys}]?: {value} }}"
        return f"{{ [key: string]: {value} }}"

    def _members(self, schema: Schema, way: Way, *, docs: bool) -> Iterator[str]:
        required = set(schema.get("required", ()))
        for key, value in schema["properties"].items():
            about: Mapping[str, Any] = value if isinstance(value, dict) else {}
            there = key in required or (way == _OUT and _has_default(about))
            if docs:
                told = "" if "default" not in about or there else f"\n@default {json.dumps(about['default'])}"
                yield from jsdoc(f"{about.get('description', '')}{told}")
            yield f"{property_name(key)}{'' if there else '?'}: {self.of(value, way)};"
        if schema.get("additionalProperties"):
            yield "[key: string]: unknown;"

    def _array(self, schema: Schema, way: Way) -> str:
        first = schema.get("prefixItems")
        if first is None:
            return "[]" if schema.get("maxItems") == 0 else f"{grouped(self.of(schema.get('items', True), way))}[]"
        least = schema.get("minItems", 0) if way == _IN else len(first)
        items = [
            self.of(item, way) if index < least else f"{grouped(self.of(item, way))}?"
            for index, item in enumerate(first)
        ]
        if "maxItems" not in schema and schema.get("items", True) is not False:
            items.append(f"...{grouped(self.of(schema.get('items', True), way))}[]")
        return f"[{', '.join(items)}]"

    def _has_defaults(self, name: str) -> bool:
        """Whether a definition, or one that it refers to, looks different to who sends and to who gets it."""
        found = False

        def note(schema: Schema) -> Schema:
            nonlocal found
            required = schema.get("required", ())
            fields = schema.get("properties", {}).items()
            found |= any(
                _has_default(value) for key, value in fields if isinstance(value, dict) and key not in required
            )
            found |= schema.get("minItems", 0) < len(schema.get("prefixItems", ()))
            return schema

        for other in {name, *reached([self._definitions[name]], self._definitions)}:
            rebuilt(self._definitions[other], note)
        return found


def _has_default(schema: Mapping[str, Any]) -> bool:
    return "default" in schema or FACTORY in schema


def jsdoc(text: str) -> Iterator[str]:
    """The lines of a comment; none where there is no text. Whatever the text is, it stays inside."""
    shown = "".join(character if character.isprintable() or character == "\n" else " " for character in text)
    lines = [line.rstrip() for line in shown.replace("*/", "*\\/").strip().split("\n")]
    if lines == [""]:
        return
    if len(lines) == 1:
        yield f"/** {lines[0]} */"
    else:
        yield "/**"
        yield from (f" * {line}".rstrip() for line in lines)
        yield " */"


def property_name(key: str) -> str:
    return key if _IDENTIFIER.fullmatch(key) else json.dumps(key)


def unique(name: str, used: set[str]) -> str:
    """A name that isn't used yet, and is from now on."""
    while name in used:
        name += "_"
    used.add(name)
    return name


def _type_name(definition: str) -> str:
    """``Page_Address_`` becomes ``PageAddress``."""
    name = "".join(part[:1].upper() + part[1:] for part in re.split(r"[\W_]+", definition))
    name = "".join(character for character in name if f"_{character}".isidentifier())  # and no fractions, say
    return name if name.isidentifier() else f"Type{name}"


def _literals(values: Iterable[object]) -> str:
    return _united(map(_literal, values))


def _literal(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _LARGEST_SAFE:
        return "number"
    return json.dumps(value) if value is None or isinstance(value, str | int | float) else "unknown"


def _united(types: Iterable[str]) -> str:
    options = dict.fromkeys(types)
    return "unknown" if "unknown" in options else " | ".join(options) or "never"


def grouped(text: str) -> str:
    """A type that ``[]`` can stand behind."""
    return f"({text})" if " | " in text or " & " in text else text

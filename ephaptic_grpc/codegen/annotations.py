"""Python's names for JSON Schemas, as Pydantic writes them: ``list[User] | None``."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from ephaptic_grpc.contract import Kind, Parameter
from ephaptic_grpc.schemas import Schema, reference, types_of
from ephaptic_grpc.vocabulary import UNIONS

STARS: Final = {Kind.VAR_POSITIONAL: "*", Kind.VAR_KEYWORD: "**"}
"""What stands before a parameter that takes the rest."""

_SCALARS: Final = {"integer": "int", "number": "float", "boolean": "bool", "null": "None", "string": "str"}

_FORMATS: Final = {
    "base64url": ("builtins", "bytes"),
    "date": ("datetime", "date"),
    "date-time": ("datetime", "datetime"),
    "decimal": ("decimal", "Decimal"),
    "duration": ("datetime", "timedelta"),
    "ipv4": ("ipaddress", "IPv4Address"),
    "ipv6": ("ipaddress", "IPv6Address"),
    "password": ("pydantic", "SecretStr"),
    "path": ("pathlib", "Path"),
    "time": ("datetime", "time"),
    "uuid": ("uuid", "UUID"),
}
"""Strings that are something else in Python, and where that is."""


class Annotations:
    """Annotations for one module.

    Args:
        names: what the classes of definitions are called; a definition goes by its own name unless it is in here.
        taken: names that mean something else wherever an annotation stands (a field called ``date``, say): what is
            imported under one of them goes by ``_date``.

    Attributes:
        imports: the lines that import what has been used so far, sorted.
    """

    def __init__(self, names: Mapping[str, str], taken: Collection[str] = ()) -> None:
        self._names = names
        self._taken = taken
        self._used: set[tuple[str, str]] = set()

    @property
    def imports(self) -> list[str]:
        modules: dict[str, list[str]] = {}
        for module, name in sorted(self._used):
            shown = f"{name} as _{name}" if name in self._taken else name
            if module != "builtins" or name in self._taken:
                modules.setdefault(module, []).append(shown)
        return [f"from {module} import {', '.join(names)}" for module, names in modules.items()]

    def use(self, module: str, name: str) -> str:
        """What something that is imported goes by."""
        self._used.add((module, name))
        return f"_{name}" if name in self._taken else name

    def of(self, schema: object) -> str:
        """The annotation of what a schema describes; ``Any`` where it says nothing that Python could."""
        if not isinstance(schema, dict):
            return self.use("typing", "Any")
        name = reference(schema)
        if name is not None:
            return self._names.get(name, name)
        if "const" in schema:
            return self._literal([schema["const"]], schema)
        if "enum" in schema:
            return self._literal(schema["enum"], schema)
        for key in UNIONS:
            if schema.get(key):
                return _joined(self.of(option) for option in schema[key])
        if len(schema.get("allOf", ())) == 1:
            return self.of(schema["allOf"][0])
        kind = schema.get("type")
        if isinstance(kind, list):
            return _joined(self.of({**schema, "type": one}) for one in kind)
        return self._of_type(kind, schema)

    def _of_type(self, kind: object, schema: Schema) -> str:
        if kind == "array":
            return self._array(schema)
        if kind == "object":
            value = schema.get("additionalProperties", True)
            return f"{self._builtin('dict')}[{self._builtin('str')}, {self.of(value)}]"
        if kind == "string" and schema.get("format") in _FORMATS:
            return self.use(*_FORMATS[schema["format"]])
        if kind == "null":
            return "None"
        return (
            self._builtin(_SCALARS[kind]) if isinstance(kind, str) and kind in _SCALARS else self.use("typing", "Any")
        )

    def _array(self, schema: Schema) -> str:
        first = schema.get("prefixItems")
        if first is not None:
            items = [self.of(item) for item in first]
            if schema.get("maxItems") != len(items):  # a tuple with a rest, which annotations can't say
                return f"{self._builtin('list')}[{self.use('typing', 'Any')}]"
            least = min(schema.get("minItems", len(items)), len(items))
            tuples = (items[:length] for length in range(least, len(items) + 1))
            return _joined(f"{self._builtin('tuple')}[{', '.join(some) or '()'}]" for some in tuples)
        item = schema.get("items", True)
        hashable = isinstance(item, dict) and ("enum" in item or "const" in item or _is_scalar(item))
        kind = "set" if schema.get("uniqueItems") and hashable else "list"
        return f"{self._builtin(kind)}[{self.of(item)}]"

    def _literal(self, values: Sequence[object], schema: Schema) -> str:
        if values and all(value is None or isinstance(value, str | int) for value in values):
            return f"{self.use('typing', 'Literal')}[{', '.join(map(literal, values))}]"
        rest = {key: value for key, value in schema.items() if key not in ("const", "enum")}
        return self.of(rest)

    def _builtin(self, name: str) -> str:
        return self.use("builtins", name)


def _is_scalar(schema: Schema) -> bool:
    types = types_of(schema)
    return bool(types) and _SCALARS.keys() >= set(types)


def literal(value: object) -> str:
    """A value as Python source, strings in double quotes where that takes no escapes."""
    text = repr(value)
    return f'"{text[1:-1]}"' if text[0] == "'" and '"' not in text and "\\" not in text else text


def _joined(annotations: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(annotations)) or "None"


def separated(parameters: Sequence[Parameter]) -> Iterator[tuple[str, int]]:
    """The indices of parameters, each after an empty mark, and the marks between them: ``/`` and ``*``."""
    before = None
    for index, parameter in enumerate(parameters):
        kind = parameter.kind
        if before is Kind.POSITIONAL_ONLY and kind is not before:
            yield "/", -1
        if kind is Kind.KEYWORD_ONLY and before not in (kind, Kind.VAR_POSITIONAL):
            yield "*", -1
        yield "", index
        before = kind
    if before is Kind.POSITIONAL_ONLY:
        yield "/", -1

"""JSON Schemas (2020-12): as Pydantic makes them of an exposed function's types, and ways to go through them."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Flag
from math import isfinite
from typing import Any, Final, Literal, cast

from pydantic.json_schema import GenerateJsonSchema, NoDefault
from pydantic_core import CoreSchema, core_schema, to_jsonable_python

from ephaptic_grpc.vocabulary import ALIASES, BY_NAME, DEFINITIONS, DOCS, ENUM_NAMES, FACTORY, ONE, SEVERAL, misfits

Schema = dict[str, Any]

Way = Literal["validation", "serialization"]
"""Which way a type goes: read from JSON, or written to it. Some look different then."""

_BOUNDS: Final = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}
"""JSON Schema's names for what Pydantic asks of a number. Pydantic tells them of a Decimal's arguments alone."""

_EMPTY_FACTORIES: Final = (list, dict, set, frozenset, tuple)


class _Generator(GenerateJsonSchema):
    """Pydantic's own, with what JSON Schema leaves out and a client in another place wants to know."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012  Pydantic's own declaration

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002  says what the name says already
        return False

    def bytes_schema(self, schema: core_schema.BytesSchema) -> Schema:
        made = super().bytes_schema(schema)
        if not self._config.config_dict:  # in no class: base64url by our own configuration
            made["format"] = "base64url"
        return made

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> Schema:
        """Text, both ways. Pydantic reads numbers as well, which would make two types of every model with a Decimal."""
        made = super().decimal_schema(schema)
        if "anyOf" in made:
            number, text = made["anyOf"]
            made = {**number, **text}
        asked: dict[str, Any] = {**schema}
        bounds = {name: float(asked[key]) for key, name in _BOUNDS.items() if asked.get(key) is not None}
        return {**made, **bounds, "format": "decimal"}

    def enum_schema(self, schema: core_schema.EnumSchema) -> Schema:
        if issubclass(schema["cls"], Flag):  # any of them together is a value, too
            return {"title": schema["cls"].__name__, "type": "integer"}
        members = list(dict.fromkeys(schema["members"]))  # a second name of the same member comes as that member again
        made = super().enum_schema({**schema, "members": members})
        return {**made, ENUM_NAMES: [member.name for member in members]}

    def get_default_value(self, schema: core_schema.WithDefaultSchema) -> Any:
        default = super().get_default_value(schema)
        factory = schema.get("default_factory")
        return factory() if default is NoDefault and factory in _EMPTY_FACTORIES else default

    def model_fields_schema(self, schema: core_schema.ModelFieldsSchema) -> Schema:
        if self._config.config_dict.get("populate_by_name") or self._config.config_dict.get("validate_by_name"):
            fields = {name: _by_name(name, field) for name, field in schema["fields"].items()}
            schema = {**schema, "fields": fields}
        return super().model_fields_schema(schema)

    def model_field_schema(self, schema: core_schema.ModelField) -> Schema:
        return self._told(schema, super().model_field_schema(schema))

    def dataclass_field_schema(self, schema: core_schema.DataclassField) -> Schema:
        return self._told(schema, super().dataclass_field_schema(schema))

    def typed_dict_field_schema(self, schema: core_schema.TypedDictField) -> Schema:
        return self._told(schema, super().typed_dict_field_schema(schema))

    def _told(self, field: Any, made: Schema) -> Schema:
        """The schema of a field, which says of a default that it can't tell that there is one, and its other names."""
        has_default = field["schema"]["type"] == "default" and field.get("serialization_exclude_if") is None
        told = {**made, FACTORY: True} if has_default and "default" not in made else made
        by_alias = self._config.config_dict.get("validate_by_alias", True)
        others = [*dict.fromkeys(alias_names(field.get("validation_alias")))][1:] if by_alias else []
        return {**told, ALIASES: others} if others else told

    def handle_invalid_for_json_schema(self, schema: object, error_info: str) -> Schema:  # noqa: ARG002
        return {}  # JSON can carry it, or it would not have been exposed: anything, then


def _by_name(name: str, field: core_schema.ModelField) -> core_schema.ModelField:
    """A field with an alias that is read by its own name as well."""
    alias = field.get("validation_alias")
    if alias is None:
        return field
    own: list[str | int] = [name]
    return {**field, "validation_alias": [*alias_paths(alias), own]}


def alias_paths(alias: Any) -> list[list[str | int]]:
    """The paths in JSON that are an alias in a core schema: a name, one path, or several of them; None is none."""
    if alias is None:
        return []
    if isinstance(alias, str):
        return [[alias]]
    return list(alias) if isinstance(alias[0], list) else [alias]


def alias_names(alias: Any) -> list[str]:
    """Those of them that are names; not the paths to values inside of others (AliasPath)."""
    return [str(path[0]) for path in alias_paths(alias) if len(path) == 1]


def json_schemas(types: Sequence[tuple[CoreSchema, Way]]) -> tuple[list[Schema], dict[str, Schema]]:
    """The schema of each type, and the definitions they share."""
    generator = _Generator(ref_template=DEFINITIONS + "{model}")
    made, definitions = generator.generate_definitions(
        [(index, mode, schema) for index, (schema, mode) in enumerate(types)]
    )
    schemas = [_sound(made[index, mode]) for index, (_, mode) in enumerate(types)]
    shared = {str(name): _sound(schema) for name, schema in definitions.items()}
    names = _same_both_ways(shared)
    return (
        [renamed(schema, names) for schema in schemas],
        dict(sorted((names.get(name, name), renamed(schema, names)) for name, schema in shared.items())),
    )


def compact(value: object) -> str:
    """A value as JSON, on one line, in ASCII."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def reference(schema: Mapping[str, Any]) -> str | None:
    """The name of the definition that a schema refers to."""
    target = schema.get("$ref")
    return target.removeprefix(DEFINITIONS) if isinstance(target, str) and target.startswith(DEFINITIONS) else None


def types_of(schema: Mapping[str, Any]) -> list[str]:
    """The types that a schema names."""
    named = schema.get("type", [])
    return named if isinstance(named, list) else [named]


def rebuilt(schema: Any, change: Callable[[Schema], Schema]) -> Any:
    """A schema in which each schema, the outermost first, is what ``change`` makes of it."""
    if not isinstance(schema, dict):
        return schema  # true, false
    schema = change(schema)
    below: Schema = {}
    for key in BY_NAME:
        if isinstance(schema.get(key), dict):
            below[key] = {name: rebuilt(part, change) for name, part in schema[key].items()}
    for key in SEVERAL:
        if isinstance(schema.get(key), list):
            below[key] = [rebuilt(part, change) for part in schema[key]]
    for key in ONE:
        if isinstance(schema.get(key), dict):
            below[key] = rebuilt(schema[key], change)
    return {**schema, **below}


def references(schema: object) -> list[str]:
    """The names of the definitions that a schema refers to, all the way down."""
    names: list[str] = []

    def look(part: Schema) -> Schema:
        mapping = part.get("discriminator", {}).get("mapping", {})
        targets = [*([part["$ref"]] if reference(part) is not None else []), *mapping.values()]
        names.extend(target.removeprefix(DEFINITIONS) for target in targets)
        return part

    rebuilt(schema, look)
    return names


def reached(schemas: Iterable[Schema], definitions: Mapping[str, Schema]) -> set[str]:
    """The names of the definitions that schemas refer to, directly or through others."""
    found: set[str] = set()
    waiting = list(schemas)
    while waiting:
        for name in references(waiting.pop()):
            if name in definitions and name not in found:
                found.add(name)
                waiting.append(definitions[name])
    return found


def malformed(schema: object) -> list[str]:
    """The keywords of a schema whose values they can't have, all the way down."""
    wrong: list[str] = []

    def look(part: Schema) -> Schema:
        wrong.extend(misfits(part))
        return part

    rebuilt(schema, look)
    return wrong


def renamed(schema: Any, names: Mapping[str, str], place: str = DEFINITIONS) -> Any:
    """A schema that refers to definitions by other names; one that isn't in ``names`` keeps its own.

    Args:
        schema: any.
        names: the other names.
        place: what its references begin with then.
    """
    return redirected(schema, lambda name: names.get(name, name), place)


def undescribed(schema: Any) -> Any:
    """A schema without its docs."""
    return rebuilt(schema, lambda part: {key: value for key, value in part.items() if key not in DOCS})


def canonical(schema: Any, names: dict[str, str]) -> Any:
    """A schema without its docs, whose references are numbered as they are met; ``names`` collects them."""
    return redirected(undescribed(schema), lambda name: names.setdefault(name, str(len(names))))


def redirected(schema: Any, target: Callable[[str], str], place: str = DEFINITIONS) -> Any:
    """A schema that refers to definitions by what ``target`` makes of their names; ``place`` as in ``renamed``."""

    def change(part: Schema) -> Schema:
        name = reference(part)
        if name is not None:
            part = {**part, "$ref": place + target(name)}
        discriminator = part.get("discriminator")
        if isinstance(discriminator, dict) and isinstance(discriminator.get("mapping"), dict):
            mapping = discriminator["mapping"]
            mapping = {tag: place + target(ref.removeprefix(DEFINITIONS)) for tag, ref in mapping.items()}
            part = {**part, "discriminator": {**discriminator, "mapping": mapping}}
        return part

    return rebuilt(schema, change)


def _same_both_ways(definitions: Mapping[str, Schema]) -> dict[str, str]:
    """One name for what goes in and out alike. Pydantic keeps ``Node-Input`` and ``Node-Output`` apart where they
    differ in nothing but references to each other: a recursive type, and all that holds one.
    """
    pairs = {
        name.removesuffix("-Input")
        for name in definitions
        if name.endswith("-Input") and name.removesuffix("-Input") + "-Output" in definitions
    }
    while True:
        names = {f"{name}-{way}": name for name in pairs for way in ("Input", "Output")}
        different = {
            name
            for name in pairs
            if name in definitions
            or renamed(definitions[f"{name}-Input"], names) != renamed(definitions[f"{name}-Output"], names)
        }
        if not different:
            return names
        pairs -= different


def _sound(schema: Any) -> Schema:
    """A schema without what makes no sense: what a type says of itself (json_schema_extra) can be anything."""

    def fitting(part: Schema) -> Schema:
        wrong = set(misfits(part))
        return {key: value for key, value in part.items() if key not in wrong}

    return cast("Schema", rebuilt(_clean(schema), fitting))


def _clean(value: Any) -> Any:
    """Without what JSON can't carry: infinity and NaN are left out, half a surrogate pair becomes a question mark."""
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items() if _is_finite(item)}
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value if _is_finite(item)]
    return value if value is None or isinstance(value, int | float) else _clean(to_jsonable_python(value, fallback=str))


def _is_finite(value: object) -> bool:
    return not isinstance(value, float) or isfinite(value)

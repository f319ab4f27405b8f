"""The client's side of classes that Pydantic writes in one way and reads in another.

Results come as Pydantic writes them, and arguments go as it reads them. Where one class has two faces (an alias for one
way, ``exclude=True``, a computed field, ``Json``), a client needs a schema of its own: one that reads what is written,
and one that writes what is read. Both are copies; a schema in which nothing had to change is handed back as it is.
"""

import operator
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from threading import Lock
from typing import Any, Final, NoReturn, TypeVar, cast

from pydantic_core import CoreConfig, CoreSchema, PydanticCustomError, PydanticSerializationError, core_schema

from ephaptic_grpc.schemas import alias_paths

_NOT_SCHEMAS: Final = {"computed_fields", "config", "default", "metadata", "serialization"}
_CLASSES: Final = {"dataclass", "model", "typed-dict"}
_FIELDS: Final = {"dataclass-args", "model-fields", "typed-dict"}
_EXCLUSIONS: Final = {"serialization_exclude", "serialization_exclude_if"}
_ABSENT: Final = object()
_NOWHERE: Final[list[str | int]] = ["\0", "\0"]
"""A path in JSON where nothing is."""

_Keys = list[list[str | int]]
"""Paths in a JSON object, of which the first that is there counts."""

T = TypeVar("T")
_building: Final = Lock()


def reading(schema: CoreSchema) -> CoreSchema:
    """A schema whose validator reads what a serialiser of the given one writes by alias.

    What isn't written is left unset, or has its default; what is computed is left out.
    """
    return cast("CoreSchema", _Reading(schema).rewritten)


def writing(schema: CoreSchema) -> CoreSchema:
    """A schema whose serialiser writes what a validator of the given one reads: nothing is excluded, and each field has
    the first of the names that it is read by. One that has none is an error when it is written.
    """
    written = _Writing(schema).rewritten
    return schema if written is schema else cast("CoreSchema", _AsDeclared(written).rewritten)


def built(make: Callable[..., T], schema: CoreSchema, config: CoreConfig) -> T:
    """A SchemaValidator or a SchemaSerializer that goes by a copied schema, not by what its classes have ready."""
    try:
        return make(schema, config, _use_prebuilt=False)
    except TypeError:  # Pydantic before 2.12 doesn't ask; it only keeps off classes that are incomplete
        with _building:
            classes = {cls for cls in _classes(schema) if vars(cls).get("__pydantic_complete__")}
            for cls in classes:
                type.__setattr__(cls, "__pydantic_complete__", False)
            try:
                return make(schema, config)
            finally:
                for cls in classes:
                    type.__setattr__(cls, "__pydantic_complete__", True)


def _classes(node: Any) -> Iterator[type]:
    if isinstance(node, list | tuple):
        for item in node:
            yield from _classes(item)
    elif isinstance(node, dict):
        if node.get("type") in _CLASSES and isinstance(node.get("cls"), type):
            yield node["cls"]
        for key, item in node.items():
            if key != "metadata":
                yield from _classes(item)


class _Rewriting:
    """One walk through a schema. What differs between the ways is in the subclasses."""

    def __init__(self, schema: Any) -> None:
        shared = schema["definitions"] if schema["type"] == "definitions" else []
        self._definitions: Final[Mapping[str, Any]] = {definition["ref"]: definition for definition in shared}
        self.rewritten: Final[Any] = self._below(schema, {}, written_by_itself=False)

    def _below(self, node: Any, config: Mapping[str, Any], *, written_by_itself: bool) -> Any:
        """A part of the schema.

        Args:
            node: the part.
            config: that of the class it is in.
            written_by_itself: whether there is a serialiser of its author's around it, in that class.
        """
        if isinstance(node, list | tuple):
            items = [self._below(item, config, written_by_itself=written_by_itself) for item in node]
            return node if all(new is old for new, old in zip(items, node, strict=True)) else type(node)(items)
        if not isinstance(node, dict):
            return node
        kind = node.get("type")
        if not isinstance(kind, str):  # fields by name, or choices by tag
            return self._with(node, node, config, written_by_itself=written_by_itself)
        written_by_itself = "serialization" in node or (written_by_itself and kind not in _CLASSES)
        if kind in _CLASSES:
            config = node.get("config", {})
        inside = [key for key in node if key not in _NOT_SCHEMAS]
        made = self._with(node, inside, config, written_by_itself=written_by_itself)
        if kind in _FIELDS:
            made = self._fields(made, config, written_by_itself=written_by_itself)
        if kind in _CLASSES:
            made = self._class(made, node, config)
        return self._changed(made, written_by_itself=written_by_itself)

    def _with(self, node: Any, keys: Any, config: Mapping[str, Any], *, written_by_itself: bool) -> Any:
        parts = {key: self._below(node[key], config, written_by_itself=written_by_itself) for key in keys}
        changed = {key: part for key, part in parts.items() if part is not node[key]}
        return {**node, **changed} if changed else node

    def _fields(self, node: Any, config: Mapping[str, Any], *, written_by_itself: bool) -> Any:  # noqa: ARG002
        return node

    def _class(self, made: Any, node: Any, config: Mapping[str, Any]) -> Any:  # noqa: ARG002
        return made

    def _changed(self, node: Any, *, written_by_itself: bool) -> Any:  # noqa: ARG002
        return node


class _Reading(_Rewriting):
    def _fields(self, node: Any, config: Mapping[str, Any], *, written_by_itself: bool) -> Any:
        if not _reads_otherwise(node, config):
            return node
        fields = {}
        for name, field in _named(node):
            has_default = field["schema"]["type"] == "default"
            excluded, sometimes = field.get("serialization_exclude"), field.get("serialization_exclude_if")
            if excluded and not written_by_itself:
                if not has_default:
                    continue
                keys: _Keys = [_NOWHERE]
            else:
                keys = [[_written(name, field)]]
                if written_by_itself:  # in which case nobody knows
                    keys += [path for path in _keys(name, field, config) if path not in keys]
            field = {**field, "validation_alias": keys}
            if (excluded or sometimes) and node["type"] == "typed-dict":
                field["required"] = False
            elif (excluded or sometimes) and not has_default:
                field["schema"] = _maybe_absent(field["schema"])
            fields[name] = field
        return _with_fields(node, fields)

    def _class(self, made: Any, node: Any, config: Mapping[str, Any]) -> Any:
        fields = _fields_of(node)
        if fields is None:
            return made
        if _reads_otherwise(fields, config):  # from now on each field says all of its names
            made = {**made, "config": {**config, "validate_by_alias": True, "validate_by_name": False}}
            made["config"].pop("populate_by_name", None)
            if made.get("custom_init"):  # which would read by the class's own names, what isn't there with its default
                made["custom_init"] = False
        computed = {field.get("alias") or field["property_name"] for field in fields.get("computed_fields", ())}
        extra = fields.get("extra_behavior") or config.get("extra_fields_behavior")
        if not computed or extra not in ("allow", "forbid"):
            return made
        if node["type"] != "model":
            return _with_extra(made, "ignore") if extra == "forbid" else made
        inner: Any = {key: item for key, item in _with_extra(made, "allow").items() if key != "ref"}
        outer = core_schema.no_info_after_validator_function(_without(computed, forbids=extra == "forbid"), inner)
        return {**outer, "ref": made["ref"]} if "ref" in made else outer

    def _changed(self, node: Any, *, written_by_itself: bool) -> Any:
        if node["type"] == "json" and not written_by_itself:
            return node.get("schema") or core_schema.any_schema()
        if node["type"] == "tagged-union" and not callable(node["discriminator"]):
            keys = alias_paths(node["discriminator"])
            written = [[key] for key in dict.fromkeys(self._written_tags(node, keys, {}))]
            if written and written != keys:
                return {**node, "discriminator": written + [path for path in keys if path not in written]}
        return node

    def _written_tags(self, node: Any, keys: _Keys, config: Mapping[str, Any]) -> Iterator[str]:
        """The names under which the choices of a tagged union write what it reads under ``keys``."""
        kind = node["type"]
        if kind in _CLASSES:
            config = node.get("config", {})
        if kind == "tagged-union":
            for choice in node["choices"].values():
                yield from self._written_tags(choice, keys, config)
        elif kind == "definition-ref":
            yield from self._written_tags(self._definitions[node["schema_ref"]], keys, config)
        elif kind in _FIELDS:
            for name, field in _named(node):
                if any(path in keys for path in _keys(name, field, config)):
                    yield _written(name, field)
        elif isinstance(node.get("schema"), dict):
            yield from self._written_tags(node["schema"], keys, config)


class _Writing(_Rewriting):
    def _fields(self, node: Any, config: Mapping[str, Any], *, written_by_itself: bool) -> Any:  # noqa: ARG002
        fields = {}
        changed = False
        for name, field in _named(node):
            key = next((path[0] for path in _keys(name, field, config) if len(path) == 1), None)
            excluded = field.keys() & _EXCLUSIONS
            changed = changed or bool(excluded) or key != _written(name, field)
            new = {key: item for key, item in field.items() if key not in excluded}
            if excluded and "default" in field["schema"]:  # which need not be of the field's type: a server has its own
                new["serialization_exclude_if"] = partial(operator.is_, field["schema"]["default"])
            if key is None:
                new["schema"] = _unwritable(name, node)
            else:
                new["serialization_alias"] = str(key)
            fields[name] = new
        return _with_fields(node, fields) if changed else node


class _AsDeclared(_Rewriting):
    """Without SerializeAsAny, by which a class would write itself in its own way."""

    def _changed(self, node: Any, *, written_by_itself: bool) -> Any:  # noqa: ARG002
        serialiser = node.get("serialization", {})
        if "any" not in (serialiser.get("type"), serialiser.get("schema", {}).get("type")):  # the latter up to 2.11
            return node
        return {key: item for key, item in node.items() if key != "serialization"}


def _named(node: Any) -> list[tuple[str, Any]]:
    fields = node["fields"]
    return list(fields.items()) if isinstance(fields, dict) else [(field["name"], field) for field in fields]


def _with_fields(node: Any, fields: dict[str, Any]) -> Any:
    return {**node, "fields": fields if isinstance(node["fields"], dict) else list(fields.values())}


def _fields_of(node: Any) -> Any:
    """The fields of a class, around which there can be validators; None where it has none (a RootModel)."""
    while node["type"] not in _FIELDS:
        node = node.get("schema")
        if not isinstance(node, dict) or node["type"] in _CLASSES - _FIELDS:
            return None
    return node


def _written(name: str, field: Any) -> str:
    return str(field.get("serialization_alias") or name)


def _keys(name: str, field: Any, config: Mapping[str, Any]) -> _Keys:
    """Where a field is read."""
    alias = field.get("validation_alias")
    by_alias = alias is not None and config.get("validate_by_alias", True)
    by_name = config.get("validate_by_name", config.get("populate_by_name", False))
    return [*(alias_paths(alias) if by_alias else ()), *([] if by_alias and not by_name else [[name]])]


def _reads_otherwise(fields: Any, config: Mapping[str, Any]) -> bool:
    return any(
        field.get("serialization_exclude")
        or (field.get("serialization_exclude_if") and field["schema"]["type"] != "default")
        or _keys(name, field, config)[0] != [_written(name, field)]
        for name, field in _named(fields)
    )


def _with_extra(node: Any, behaviour: str) -> Any:
    """A class whose fields do something else with what isn't one of them."""
    if node["type"] in _FIELDS:
        return {**node, "extra_behavior": behaviour}
    return {**node, "schema": _with_extra(node["schema"], behaviour)}


def _without(computed: set[str], *, forbids: bool) -> Callable[[Any], Any]:
    """What takes computed values out of a model, which has read them as extra ones."""

    def without(model: Any) -> Any:
        extra = {key: value for key, value in (model.__pydantic_extra__ or {}).items() if key not in computed}
        if forbids and extra:
            raise PydanticCustomError("extra_forbidden", "Extra inputs are not permitted")  # Pydantic's own words
        object.__setattr__(model, "__pydantic_extra__", None if forbids else extra)
        model.__pydantic_fields_set__.difference_update(computed)
        return model

    return without


def _maybe_absent(schema: Any) -> CoreSchema:
    """A field that is left unset where it doesn't come. Pydantic has no word for that: a default that is refused is."""
    refused = core_schema.with_default_schema(core_schema.int_schema(strict=True), on_error="omit")
    either = core_schema.tagged_union_schema(
        {"absent": refused, "present": schema},
        discriminator=lambda value: "absent" if value is _ABSENT else "present",
    )
    return core_schema.with_default_schema(either, default=_ABSENT, validate_default=True)


def _unwritable(name: str, node: Any) -> CoreSchema:
    owner = node.get("model_name") or node.get("dataclass_name") or node.get("cls_name") or "its class"

    def refuse(_: object) -> NoReturn:
        raise PydanticSerializationError(
            f"{owner}.{name} is read from inside of another field (AliasPath), where a client can't put it: give it "
            "AliasChoices with a name of its own, too"
        )

    return core_schema.any_schema(serialization=core_schema.plain_serializer_function_ser_schema(refuse))

"""What Pydantic does for one value: Python to JSON bytes and back, with everything built beforehand."""

import inspect
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final, Literal

from pydantic import ValidationError
from pydantic_core import (
    CoreSchema,
    PydanticCustomError,
    PydanticSerializationError,
    SchemaSerializer,
    SchemaValidator,
    core_schema,
    from_json,
    to_json,
)

from ephaptic_grpc.binary import JSON_CONFIG, VALIDATOR_CONFIG, serialiser_config
from ephaptic_grpc.errors import ExposeError
from ephaptic_grpc.impossible import impossible
from ephaptic_grpc.mirrored import built, reading

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # some releases of Pydantic warn that this module is experimental
    from pydantic.experimental.arguments_schema import generate_arguments_schema

_SCALARS: Final = {"bool", "bytes", "date", "datetime", "float", "int", "none", "str", "time", "timedelta"}
_PLAIN: Final = _SCALARS | {"dict", "list", "nullable"}
"""Schemas whose values, once validated, can't be anything else."""

_WITHOUT_NAN: Final = (_SCALARS - {"float"}) | {
    "computed-field",
    "dataclass",
    "dataclass-args",
    "dataclass-field",
    "decimal",
    "default",
    "definition-ref",
    "definitions",
    "dict",
    "enum",
    "frozenset",
    "list",
    "literal",
    "model",
    "model-field",
    "model-fields",
    "nullable",
    "set",
    "tagged-union",
    "tuple",
    "typed-dict",
    "typed-dict-field",
    "union",
    "url",
    "uuid",
}
"""Schemas of values that are no float, unless something in them is."""

_CONTAINERS: Final = {
    "default",
    "definitions",
    "dict",
    "frozenset",
    "generator",
    "list",
    "nullable",
    "set",
    "tuple",
    "union",
}
"""Schemas of values that are, or hold, those of another schema."""

_OF_ANYTHING: Final = {
    "dict": "values_schema",
    "frozenset": "items_schema",
    "list": "items_schema",
    "set": "items_schema",
}
"""Schemas that take anything where a key is missing."""


class Value:
    """The values of one declared type.

    Args:
        annotation: the type; anything that Pydantic knows.

    Raises:
        PydanticUserError, SchemaError, TypeError: Pydantic can't read the type.
        ExposeError: its bytes can't be told apart from text; or JSON can't carry its values.
        NameError: the type names something that isn't defined (yet).
    """

    def __init__(self, annotation: object) -> None:
        parameter = inspect.Parameter("value", inspect.Parameter.POSITIONAL_ONLY, annotation=annotation)
        schema = parameters_schema([parameter])
        definitions, arguments = split_definitions(schema)
        schema = arguments["arguments_schema"][0]["schema"]
        self.schema: CoreSchema = with_definitions(schema, definitions)
        if is_callable(self.schema):
            raise ExposeError(f"it gives {annotation}, and JSON can't carry something to call: give what comes of it")
        unusable = impossible(self.schema)
        if unusable:
            raise ExposeError(f"the type of what it gives can't be used: {unusable}")
        validator = SchemaValidator(self.schema, VALIDATOR_CONFIG)
        serialiser = SchemaSerializer(self.schema, serialiser_config(self.schema))
        self._validate = validator.validate_python
        self._serialise = serialiser.to_json
        # To look for misfits costs ten times what it takes to write a string.
        self._warnings: Literal[False, "error"] = False if _always_fits(self.schema) else "error"
        self._may_hide_nan: Final = Nan(definitions).is_hidden(schema)
        self._reading: Final = reading(self.schema)
        self.load = validator.validate_json if self._reading is self.schema else _loading(self._reading)
        """The value that some JSON stands for, as ``dump`` writes it; raises ValidationError where it doesn't fit the
        declared type."""

    @cached_property
    def _telling_nan(self) -> SchemaSerializer:
        return SchemaSerializer(self.schema, {**serialiser_config(self.schema), "ser_json_inf_nan": "constants"})

    @cached_property
    def load_all(self) -> Callable[[bytes], list[Any]]:
        """The values that a JSON array of them stands for; raises as ``load``. Only clients need it, of streams."""
        definitions, schema = split_definitions(self._reading)
        every = with_definitions(core_schema.list_schema(schema), definitions)
        if self._reading is self.schema:
            return SchemaValidator(every, VALIDATOR_CONFIG).validate_json
        return built(SchemaValidator, every, VALIDATOR_CONFIG).validate_json

    def dump(self, value: object) -> bytes:
        """The JSON of a value, which has been made to fit its declared type: attributes that the type doesn't
        name are left out.

        Raises:
            ValidationError, PydanticSerializationError: the value doesn't fit, or there is a NaN or an Infinity in it:
                Pydantic would make null of it, without a word.
        """
        try:
            fitting = self._validate(value, from_attributes=True)
            json = self._serialise(fitting, by_alias=True, warnings=self._warnings)
            if self._may_hide_nan and b"null" in json:
                refuse_nan(self._telling_nan, fitting)
            return json
        except (ValidationError, PydanticSerializationError) as error:
            error.add_note("what the function gave doesn't fit the type that it declares")
            raise


def _loading(schema: CoreSchema) -> Callable[[bytes], Any]:
    validate = built(SchemaValidator, schema, VALIDATOR_CONFIG).validate_json

    def load(json: bytes) -> Any:
        try:
            return validate(json)
        except AttributeError as error:
            reason = "a validator of its class asks for what isn't sent: {error}"
            missing = PydanticCustomError("not_sent", reason, {"error": str(error)})
            raise ValidationError.from_exception_data("value", [{"type": missing, "input": None}]) from error

    return load


def parameters_schema(parameters: list[inspect.Parameter]) -> CoreSchema:
    """Pydantic's schema of a list of arguments, with annotations that hold no unresolved names."""

    def stand_in() -> None: ...

    # Pydantic reads a function. This one carries the annotations as they were resolved, so that it has no
    # names to look up; and through a parameter the configuration reaches dataclasses and TypedDicts as well.
    stand_in.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    stand_in.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return generate_arguments_schema(stand_in, schema_type="arguments", config=JSON_CONFIG)


def split_definitions(schema: Any) -> tuple[list[CoreSchema], Any]:
    """The shared definitions of a schema, and the schema proper."""
    return (schema["definitions"], schema["schema"]) if schema["type"] == "definitions" else ([], schema)


def with_definitions(schema: CoreSchema, definitions: list[CoreSchema]) -> CoreSchema:
    return core_schema.definitions_schema(schema, definitions) if definitions else schema


def is_callable(schema: Any) -> bool:
    """Whether values of a schema, or some in them, are something to call. What is in classes is for their authors."""
    if isinstance(schema, list | tuple):
        return any(map(is_callable, schema))
    if not isinstance(schema, dict) or "serialization" in schema:
        return False
    if schema.get("type") == "callable":
        return True
    inside = ("schema", "choices", "items_schema", "values_schema")
    return schema.get("type") in _CONTAINERS and any(is_callable(schema.get(key)) for key in inside)


def refuse_nan(serialiser: SchemaSerializer, value: object, *, round_trip: bool = False) -> None:
    """Raise PydanticSerializationError where what has become null in a value's JSON was a number that is none.

    Args:
        serialiser: with the configuration ``ser_json_inf_nan="constants"``.
        value: what was written.
        round_trip: whether that was without what is computed.
    """
    # What is in ``Any`` goes by that configuration; what classes declare is left as it is by the other way to JSON.
    json = serialiser.to_json(value, warnings=False, exclude_none=True, round_trip=round_trip)
    found = _has_nan(json)
    if not found and b"null" in json:
        declared = serialiser.to_python(value, mode="json", warnings=False, round_trip=round_trip)
        found = _has_nan(to_json(declared, inf_nan_mode="constants"))
    if found:
        raise PydanticSerializationError(
            "JSON has no NaN and no Infinity: give None in place of it, or say with ser_json_inf_nan in the "
            "model's configuration what it shall be"
        )


def _has_nan(json: bytes) -> bool:
    if b"NaN" in json or b"Infinity" in json:
        try:
            from_json(json, allow_inf_nan=False)
        except ValueError:
            return True
    return False


class Nan:
    """Where a float can be no number, in values of schemas that share definitions: these are read through once."""

    def __init__(self, definitions: list[CoreSchema]) -> None:
        self._shared: Final = bool(definitions)
        self._floats: Final = _has_floats(definitions)
        self._said: Final = _says_what_nan_is(definitions)

    def is_possible(self, schema: CoreSchema) -> bool:
        """Whether there can be one. A float that is declared outside of any class is a number."""
        return self._floats or ((self._shared or not _always_fits(schema)) and _has_floats(schema))

    def is_hidden(self, schema: CoreSchema) -> bool:
        """Whether Pydantic can make null of one, without its author having said so."""
        return not self._said and self.is_possible(schema) and not _says_what_nan_is(schema)


def _has_floats(schema: Any) -> bool:
    if isinstance(schema, list | tuple):
        return any(map(_has_floats, schema))
    if not isinstance(schema, dict):
        return False
    kind = schema.get("type")
    if isinstance(kind, str) and (kind not in _WITHOUT_NAN or _OF_ANYTHING.get(kind, "type") not in schema):
        return True
    if "serialization" in schema or "allow" in (schema.get("extra_behavior"), schema.get("extra_fields_behavior")):
        return True
    return any(_has_floats(item) for key, item in schema.items() if key not in ("metadata", "default"))


def _says_what_nan_is(schema: Any) -> bool:
    """Whether the author of some class has decided what NaN is in JSON."""
    if isinstance(schema, list | tuple):
        return any(map(_says_what_nan_is, schema))
    if isinstance(schema, dict):
        return "ser_json_inf_nan" in schema or any(
            _says_what_nan_is(item) for key, item in schema.items() if key != "metadata"
        )
    return False


def _always_fits(schema: Any) -> bool:
    """Whether validated values are sure to fit. Instances of classes aren't: they can have been changed."""
    if isinstance(schema, list | tuple):
        return all(map(_always_fits, schema))
    if isinstance(schema, dict):
        return (
            schema.get("type", "str") in _PLAIN
            and "serialization" not in schema
            and all(_always_fits(item) for key, item in schema.items() if key != "metadata")
        )
    return True

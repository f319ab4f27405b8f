"""What Pydantic does for one value: Python to JSON bytes and back, with everything built beforehand."""

import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final

from pydantic import ConfigDict
from pydantic_core import CoreConfig, CoreSchema, SchemaSerializer, SchemaValidator, core_schema

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # some releases of Pydantic warn that this module is experimental
    from pydantic.experimental.arguments_schema import generate_arguments_schema

JSON_CONFIG: Final = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", allow_inf_nan=False)
"""For every type that has no configuration of its own: binary data is base64url, and a float is a JSON number."""

CORE_CONFIG: Final = CoreConfig(ser_json_bytes="base64", val_json_bytes="base64", allow_inf_nan=False)
"""The same for the outermost validators and serialisers, which Pydantic's schemas don't carry it to."""


class Value:
    """The values of one declared type.

    Args:
        annotation: the type; anything that Pydantic knows.

    Raises:
        PydanticUserError, PydanticSchemaGenerationError: Pydantic can't read the type.
        NameError: the type names something that isn't defined (yet).
    """

    def __init__(self, annotation: object) -> None:
        parameter = inspect.Parameter("value", inspect.Parameter.POSITIONAL_ONLY, annotation=annotation)
        schema = parameters_schema([parameter])
        definitions, arguments = split_definitions(schema)
        self.schema: CoreSchema = with_definitions(arguments["arguments_schema"][0]["schema"], definitions)
        self._validate = SchemaValidator(self.schema, CORE_CONFIG)
        self._serialise = SchemaSerializer(self.schema, CORE_CONFIG)

    def dump(self, value: object) -> bytes:
        """The JSON of a value, which has been made to fit its declared type: attributes that the type doesn't
        name are left out.

        Raises:
            ValidationError, PydanticSerializationError: the value doesn't fit.
        """
        fitting = self._validate.validate_python(value, from_attributes=True)
        return self._serialise.to_json(fitting, by_alias=True, warnings="error")

    def load(self, json: bytes) -> Any:
        """The value that some JSON stands for.

        Raises:
            ValidationError: it doesn't fit the declared type.
        """
        return self._validate.validate_json(json)


def parameters_schema(
    parameters: list[inspect.Parameter], reading: Callable[[int, str, Any], None] | None = None
) -> CoreSchema:
    """Pydantic's schema of a list of arguments.

    Args:
        parameters: with annotations that hold no unresolved names.
        reading: told the index, the name and the annotation of each parameter before it is read.
    """

    def stand_in() -> None: ...

    # Pydantic reads a function. This one carries the annotations as they were resolved, so that it has no
    # names to look up; and through a parameter the configuration reaches dataclasses and TypedDicts as well.
    stand_in.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    stand_in.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return generate_arguments_schema(stand_in, schema_type="arguments", parameters_callback=reading, config=JSON_CONFIG)


def split_definitions(schema: Any) -> tuple[list[CoreSchema], Any]:
    """The shared definitions of a schema, and the schema proper."""
    return (schema["definitions"], schema["schema"]) if schema["type"] == "definitions" else ([], schema)


def with_definitions(schema: CoreSchema, definitions: list[CoreSchema]) -> CoreSchema:
    return core_schema.definitions_schema(schema, definitions) if definitions else schema


def warn_of_text_bytes(schema: CoreSchema, where: str, stacklevel: int) -> None:
    """Warn once for each class whose bytes fields can't hold binary data."""
    for name in sorted(set(_text_bytes(schema, None, text=False))):
        warnings.warn(
            f"{where}: {name} has bytes fields that JSON carries as UTF-8 text, so that binary data will fail: give it "
            'ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")',
            stacklevel=stacklevel + 1,
        )


def _text_bytes(node: object, owner: str | None, *, text: bool) -> Iterator[str]:
    """The names of the classes below ``node`` with bytes fields that are sent as text."""
    if isinstance(node, list | tuple):
        for item in node:
            yield from _text_bytes(item, owner, text=text)
    elif isinstance(node, dict) and "serialization" not in node:  # else its author says how it is sent
        kind = node.get("type")
        if kind == "bytes" and text and owner:
            yield owner
        if kind in ("model", "dataclass", "typed-dict") and isinstance(node.get("cls"), type):
            owner = node["cls"].__qualname__
            text = node.get("config", {}).get("ser_json_bytes") != "base64"
        for key, item in node.items():
            if key not in ("metadata", "config"):
                yield from _text_bytes(item, owner, text=text)

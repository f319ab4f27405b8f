"""Bytes in JSON: where a schema has them, and how they get through.

Bare bytes, and those of classes without a configuration of their own, are base64url. A model keeps its configuration,
which is text unless it says otherwise; and where a field encodes its bytes itself (``Base64Bytes``, say), the result
must not be encoded again.
"""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from pydantic import ConfigDict
from pydantic_core import CoreConfig, CoreSchema

from ephaptic_grpc.errors import ExposeError

JSON_CONFIG: Final = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", allow_inf_nan=False)
"""For every type that has no configuration of its own: binary data is base64url, and a float is a JSON number."""

VALIDATOR_CONFIG: Final = CoreConfig(val_json_bytes="base64", allow_inf_nan=False)
"""The same for the outermost validator, which a schema doesn't carry it to."""


class _Bytes(NamedTuple):
    """One place of a schema that holds bytes: the class it is in, if any, whether they go as text by that class's
    configuration, and whether a serialiser of their own encodes them.
    """

    owner: str | None
    as_text: bool
    encoded: bool


def serialiser_config(schema: CoreSchema) -> CoreConfig:
    """The configuration of the outermost serialiser: it rules bare bytes, and also what serialisers in classes return.

    Raises:
        ExposeError: one of them would be wrong.
    """
    places = list(_places(schema))
    text = any(place.encoded and place.as_text for place in places)
    base64 = any(place.owner is None or (place.encoded and not place.as_text) for place in places)
    if text and base64:
        raise ExposeError(
            "it mixes bare bytes with a model that encodes its bytes itself, such as Base64Bytes: put the bare ones "
            'into a model, too, with ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")'
        )
    return CoreConfig() if text else CoreConfig(ser_json_bytes="base64")


def warn_of_text(schema: CoreSchema, where: str, stacklevel: int) -> None:
    """Warn once for each class whose bytes fields can't hold binary data, and once of what is text or bytes."""
    owners = {place.owner for place in _places(schema) if place.owner and place.as_text and not place.encoded}
    for owner in sorted(owners):
        warnings.warn(
            f"{where}: {owner} has bytes fields that JSON carries as UTF-8 text, so that binary data will fail: "
            'give it ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")',
            stacklevel=stacklevel + 1,
        )

    if _is_either(schema):
        warnings.warn(
            f"{where}: JSON has text only, so that of str | bytes one comes as the other: give each a field of its own",
            stacklevel=stacklevel + 1,
        )


def _is_either(node: Any) -> bool:
    """Whether a schema has a union of text and bytes."""
    if isinstance(node, list | tuple):
        return any(map(_is_either, node))
    if not isinstance(node, dict) or "serialization" in node:
        return False
    if node.get("type") == "union" and {"bytes", "str"} <= set(_choices(node)):
        return True
    return any(_is_either(item) for key, item in node.items() if key not in ("metadata", "config", "default"))


def _choices(node: Any) -> Iterator[str]:
    """The types of what a union can be."""
    if isinstance(node, tuple):  # with a label
        node = node[0]
    if node["type"] == "union":
        for choice in node["choices"]:
            yield from _choices(choice)
    elif isinstance(node.get("schema"), dict):
        yield from _choices(node["schema"])
    else:
        yield node["type"]


def _places(schema: Any) -> Iterator[_Bytes]:
    definitions = {}
    if schema["type"] == "definitions":
        definitions = {definition["ref"]: definition for definition in schema["definitions"]}
        schema = schema["schema"]
    return _below(schema, _Bytes(None, as_text=False, encoded=False), definitions, set())


def _below(node: Any, here: _Bytes, definitions: Mapping[str, Any], seen: set[tuple[str, _Bytes]]) -> Iterator[_Bytes]:
    if isinstance(node, list | tuple):
        for item in node:
            yield from _below(item, here, definitions, seen)
    elif isinstance(node, dict):
        kind = node.get("type")
        if kind == "definition-ref" and (node["schema_ref"], here) not in seen:
            seen.add((node["schema_ref"], here))
            yield from _below(definitions.get(node["schema_ref"]), here, definitions, seen)
        if "serialization" in node:
            here = here._replace(encoded=True)
        if kind == "bytes":
            yield here
        if kind in ("model", "dataclass", "typed-dict") and isinstance(node.get("cls"), type):
            as_text = node.get("config", {}).get("ser_json_bytes") != "base64"
            here = _Bytes(node["cls"].__qualname__, as_text, encoded=False)
        for key, item in node.items():
            if key not in ("metadata", "config", "serialization"):
                yield from _below(item, here, definitions, seen)

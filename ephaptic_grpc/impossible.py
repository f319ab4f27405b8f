"""Types that Pydantic reads and can't use: found when a function is exposed, and not by its first caller."""

from functools import partial
from typing import Any, Final

from pydantic_core import PydanticSerializationError, SchemaValidator, to_json

_EXAMPLES: Final[dict[str, Any]] = {
    "bool": True,
    "bytes": b"",
    "dict": {},
    "float": 1.0,
    "int": 1,
    "list": [],
    "set": set(),
    "str": "",
}
"""A value of each simple type, to try a constraint on."""


def impossible(schema: Any) -> str | None:
    """Why values of a schema can't get through; None where nothing is known against it.

    A constraint doesn't go with the type (``Annotated[int, Field(pattern="x")]``), or JSON can't carry a member of an
    enum.
    """
    if isinstance(schema, list | tuple):
        return next(filter(None, map(impossible, schema)), None)
    if not isinstance(schema, dict):
        return None
    kind = schema.get("type")
    reason = None
    if kind == "enum" and "serialization" not in schema:
        reason = _impossible_member(schema["members"])
    elif kind == "function-after" and _is_constraint(schema):
        reason = _misfit(schema["schema"], schema["function"]["function"])
    elif kind == "chain":
        for step in schema["steps"][1:]:
            if step["type"] == "function-wrap" and _is_constraint(step):
                reason = reason or _misfit(schema["steps"][0], SchemaValidator(step).validate_python)
    inside = (item for key, item in schema.items() if key not in ("config", "default", "metadata", "serialization"))
    return reason or next(filter(None, map(impossible, inside)), None)


def _impossible_member(members: list[Any]) -> str | None:
    for member in members:
        try:
            to_json(member.value, bytes_mode="base64")
        except PydanticSerializationError:
            return f"JSON can't carry the value of {member}"
    return None


def _is_constraint(schema: Any) -> bool:
    """Whether the function of a schema is a check of Pydantic's own, which can be called here and now."""
    function = schema["function"]["function"]
    if isinstance(function, partial):
        return getattr(function.func, "__module__", None) == "pydantic._internal._validators"
    return str(getattr(function, "__qualname__", "")).startswith("apply_known_metadata.<locals>._apply_constraint")


def _misfit(schema: Any, check: Any) -> str | None:
    while schema["type"] == "function-after" and _is_constraint(schema):
        schema = schema["schema"]
    if schema["type"] in _EXAMPLES:
        try:
            check(_EXAMPLES[schema["type"]])
        except TypeError as error:  # Pydantic's own: "Unable to apply constraint 'pattern' to ..."
            return str(error)
        except Exception:  # noqa: S110  the example doesn't fit, and others can
            pass
    return None

"""What Pydantic found wrong with the arguments of a call, as a status that says where and what was expected.

The values of the input are never repeated: not by Pydantic's words, nor by those of a validator of the user's.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from google.rpc.error_details_pb2 import BadRequest
from pydantic import ValidationError
from pydantic_core import from_json

from ephaptic_grpc.errors import BadArgumentsError
from ephaptic_grpc.limits import (
    RENDERED_ERRORS,
    STATUS_DETAILS_BYTES,
    VIOLATION_FIELD_CHARS,
    VIOLATION_TEXT_CHARS,
    VIOLATIONS,
)

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_ANY_OVERHEAD: Final = 64
_MESSAGE_OVERHEAD: Final = 4
"""Bytes that the details around the violations take, and those around each."""

_CONTRACT_NOTE: Final = 200
"""Bytes that are kept free for what a stale client is told."""

_SHORTEST_SECRET: Final = 4
_SCALARS_STRUCK_OUT: Final = 1000


def bad_arguments(
    error: ValidationError, json: bytes, parameters: Sequence[str], rest: str | None
) -> BadArgumentsError:
    """INVALID_ARGUMENT with a ``google.rpc.BadRequest`` that names each field, at most 16 of them.

    Args:
        error: what Pydantic raised for ``json``.
        json: the arguments as they came.
        parameters: the names of the parameters that can go by position, in order.
        rest: the name of the parameter that takes further positions (``*rest``), if there is one.
    """
    count = error.error_count()
    if count > RENDERED_ERRORS:
        return BadArgumentsError(f"bad arguments: {count} values don't fit")
    found = error.errors(include_input=False, include_url=False, include_context=False)
    data = None if found[0]["type"] == "json_invalid" and not found[0]["loc"] else from_json(json or b"{}")
    violations: list[BadRequest.FieldViolation] = []
    room = STATUS_DETAILS_BYTES - _ANY_OVERHEAD - _CONTRACT_NOTE
    for item in found[:VIOLATIONS]:
        loc, value = _place(item["loc"], data, missing=item["type"].startswith("missing"))
        violation = BadRequest.FieldViolation(
            field=_shorten(_path(loc, parameters, rest, by_position=isinstance(data, list)), VIOLATION_FIELD_CHARS),
            description=_shorten(_strike_out(item["msg"], value), VIOLATION_TEXT_CHARS),
        )
        room -= violation.ByteSize() + _MESSAGE_OVERHEAD
        if room < 0:
            break
        violations.append(violation)
    first = violations[0]
    message = (
        f"bad arguments: {first.field}: {first.description}" if first.field else f"bad arguments: {first.description}"
    )
    if count > 1:
        message += f" (and {count - 1} more)"
    return BadArgumentsError(message, [BadRequest(field_violations=violations)])


def _place(loc: tuple[int | str, ...], data: Any, *, missing: bool) -> tuple[list[int | str], Any]:
    """Where in the input an error is, and the value that is there.

    Pydantic's own path also names the members of unions and the validators that it went through: what the input
    doesn't have is left out, unless it is the very thing that is missing.
    """
    place: list[int | str] = []
    for index, step in enumerate(loc):
        if _has(data, step):
            data = data[step]
        elif missing and index == len(loc) - 1:
            data = None
        else:
            continue
        place.append(step)
    return place, data


def _has(data: Any, step: int | str) -> bool:
    if isinstance(data, dict):
        return step in data
    return isinstance(data, list) and isinstance(step, int) and step < len(data)


def _path(loc: list[int | str], parameters: Sequence[str], rest: str | None, *, by_position: bool) -> str:
    """``user.addresses[0].city``: the same for a caller by name and one by position."""
    steps = iter(loc)
    text = ""
    if loc and isinstance(loc[0], int) and (by_position or loc[0] < len(parameters)):
        position = int(next(steps))
        if position < len(parameters):
            text = parameters[position]
        else:
            text = f"{rest or ''}[{position - len(parameters) if rest else position}]"
    for step in steps:
        if isinstance(step, str) and _IDENTIFIER.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{step!r}]"
    return text


def _strike_out(text: str, value: Any) -> str:
    lower = text.lower()
    for scalar, _ in zip(_scalars(value), range(_SCALARS_STRUCK_OUT), strict=False):
        # As a validator that strips it, folds its case or shows its repr() can have it.
        for form in (repr(scalar.strip())[1:-1], scalar.strip()):
            if len(form) >= _SHORTEST_SECRET and form.lower() in lower:
                text = re.sub(re.escape(form), "…", text, flags=re.IGNORECASE)
    return text


def _scalars(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _scalars(item)
    elif isinstance(value, list):
        for item in value:
            yield from _scalars(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _shorten(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 1] + "…"

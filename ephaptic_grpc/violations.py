"""What Pydantic found wrong with the arguments of a call, as a status that says where and what was expected.

The values of the input are never repeated: not by Pydantic's words, nor by those of a validator of the user's.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, get_args

from google.rpc.error_details_pb2 import BadRequest
from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json
from pydantic_core.core_schema import ErrorType

from ephaptic_grpc.errors import BadArgumentsError, cut
from ephaptic_grpc.limits import (
    RENDERED_ERRORS,
    SCALARS_STRUCK_OUT,
    STATUS_DETAILS_BYTES,
    STRUCK_OUT_CHARS,
    VIOLATION_FIELD_BYTES,
    VIOLATION_TEXT_BYTES,
    VIOLATIONS,
)

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_ANY_OVERHEAD: Final = 64
_MESSAGE_OVERHEAD: Final = 4
"""Bytes that the details around the violations take, and those around each."""

_CONTRACT_NOTE: Final = 200
"""Bytes that are kept free for what a stale client is told."""

_IN_WORDS_BY_CHANCE: Final = 4
"""A value of fewer characters is struck out where it is a word of its own only."""

_OWN_KINDS: Final = {*get_args(ErrorType)} - {"assertion_error", "value_error"}
"""Errors whose words are Pydantic's own, which repeat nothing but a tag; of these two they are a validator's."""

_TAG_INVALID: Final = "union_tag_invalid"
_AFTER_TAG: Final = " found using "

_NOTHING_ELSE: Final = "it does not fit"
"""What is said where the words could repeat what nobody has looked for in them."""


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
    found: list[ErrorDetails] = []
    if count <= RENDERED_ERRORS:
        with suppress(Exception):  # of an error that a validator raised and that can't be shown
            found = error.errors(include_input=False, include_url=False, include_context=False)
    if not found:
        return BadArgumentsError(f"bad arguments: {count} values don't fit")
    data = None if found[0]["type"] == "json_invalid" and not found[0]["loc"] else from_json(json or b"{}")
    violations: list[BadRequest.FieldViolation] = []
    words = _Words()
    room = STATUS_DETAILS_BYTES - _ANY_OVERHEAD - _CONTRACT_NOTE
    for item in found[:VIOLATIONS]:
        loc, value = _place(item["loc"], data, missing=item["type"].startswith("missing"))
        violation = BadRequest.FieldViolation(
            field=cut(_path(loc, parameters, rest, by_position=isinstance(data, list)), VIOLATION_FIELD_BYTES),
            description=cut(words.about(value, item["type"], item["msg"]), VIOLATION_TEXT_BYTES),
        )
        room -= violation.ByteSize() + _MESSAGE_OVERHEAD
        if room < 0:
            break
        violations.append(violation)
    first = violations[0]
    place = f"{first.field}: " if first.field else ""
    message = f"bad arguments: {place}{first.description}"
    if count > 1:
        message += f" (and {count - 1} more)"
    return BadArgumentsError(message, [BadRequest(field_violations=violations)])


def misfit(error: ValidationError, json: bytes) -> str:
    """Where the first thing is that doesn't fit in a value, and why: ``tags[0]: Input should be a valid integer``."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    data = None if first["type"] == "json_invalid" and not first["loc"] else from_json(json)
    loc, _ = _place(first["loc"], data, missing=first["type"].startswith("missing"))
    place = _path(loc, (), None, by_position=False)
    return f"{place}: {first['msg']}" if place else first["msg"]


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


class _Words:
    """What is said of the values of one call, without the values: as many as there is time to look for."""

    def __init__(self) -> None:
        self._left = SCALARS_STRUCK_OUT

    def about(self, value: Any, kind: str, text: str) -> str:
        """What may be told.

        Args:
            value: the input that doesn't fit.
            kind: Pydantic's name of what is wrong with it.
            text: the words of Pydantic or of a validator.
        """
        if kind == _TAG_INVALID:
            return f"Input tag '…'{_AFTER_TAG}{text.rpartition(_AFTER_TAG)[2]}"
        if kind in _OWN_KINDS:
            return text
        if isinstance(value, dict | list) and len(text) > STRUCK_OUT_CHARS:
            return _NOTHING_ELSE
        folded = _folded(text)
        for scalar in _scalars(value):
            if self._left == 0:
                return _NOTHING_ELSE
            self._left -= 1
            stripped = scalar.strip()
            if 0 < len(stripped) <= len(text):
                # As a validator that strips it, folds its case or shows its repr() can have it.
                for form in {repr(stripped)[1:-1], stripped}:
                    text, folded = _strike_out(_folded(form), text, folded)
        return text


def _strike_out(form: str, text: str, folded: str) -> tuple[str, str]:
    if form not in folded:
        return text, folded
    kept, at, after = [], 0, 0
    while (found := folded.find(form, after)) >= 0:
        after = found + len(form)
        beside = folded[max(found - 1, 0) : found] + folded[after : after + 1]
        if len(form) >= _IN_WORDS_BY_CHANCE or not any(map(str.isalnum, beside)):
            kept.append((text[at:found], folded[at:found]))
            at = after
    kept.append((text[at:], folded[at:]))
    return "…".join(text for text, _ in kept), "…".join(folded for _, folded in kept)


def _folded(text: str) -> str:
    """A text in one case, as long as it was: where a character is in it, it is in the text."""
    folded = text.lower()
    return folded if len(folded) == len(text) else "".join(one if len(one.lower()) > 1 else one.lower() for one in text)


def _scalars(value: Any) -> Iterator[str]:
    # Not by calling itself: a value can be 200 levels deep, and each item would go through all of them.
    below = [iter([value])]
    while below:
        for item in below[-1]:
            if isinstance(item, dict | list):
                below.append(iter(item.values() if isinstance(item, dict) else item))
                break
            if item is not None and not isinstance(item, bool):
                yield str(item)
        else:
            below.pop()

"""Formats of text in JSON Schemas: what a change of one means on a side of a service."""

from typing import Final

from ephaptic_grpc import differences as rules
from ephaptic_grpc.differences import Side
from ephaptic_grpc.schemas import Schema

_FROM_TEXT: Final = {
    "base64url",
    "binary",
    "email",
    "password",
    "path",
    "uri",
    *(f"uuid{n}" for n in ("", *range(1, 9))),
}
"""Formats that Pydantic reads from text alone. Others it reads from numbers as well."""

_OF_ANY_TEXT: Final = {"password", "path"}
"""Formats that every text has."""


def format_rule(side: Side, sent: Schema, taken: Schema) -> rules.Rule | None:
    """The kind of difference between the formats of two schemas of text; None where what is sent has the one taken."""
    ours, theirs = sent.get("format"), taken.get("format")
    arguments = side is Side.ARGUMENT
    if ours == theirs:
        return None
    if "password" in (ours, theirs) and not arguments:  # a secret goes out as asterisks
        return rules.LIKENESS
    if theirs is None or (arguments and theirs in _OF_ANY_TEXT):
        # What a format counts as its length may not be that of the text.
        measured = any(key in taken for key in ("minLength", "maxLength", "pattern"))
        fits = ours is None or (not measured and (not arguments or ours in _FROM_TEXT))
        return None if fits else rules.LIKENESS
    if theirs == "uuid" and str(ours).startswith("uuid"):
        return None
    return rules.FORMAT if ours is None else rules.LIKENESS

"""Whether the bounds of one JSON Schema lie within those of another: numbers, lengths, steps and patterns."""

from math import ceil, floor
from typing import Any

from ephaptic_grpc.differences import BOUND, LIKENESS, Difference, Side
from ephaptic_grpc.schemas import Schema
from ephaptic_grpc.vocabulary import COUNTS

_Limit = tuple[float, bool]
"""A number, and whether it is itself beyond the limit."""


def bounds(side: Side, sent: Schema, taken: Schema) -> list[Difference]:
    """What is asked of a value where it is taken, and isn't certain where it is sent."""
    found: list[Difference] = []
    ours: Any
    theirs: Any

    def differs(rule: Any, *keywords: str) -> None:
        old, new = (_shown(schema, keywords) for schema in side.in_time(sent, taken))
        found.append(rule.found(side, old=old, new=new))

    for sign, *keywords in ((1, "maximum", "exclusiveMaximum"), (-1, "minimum", "exclusiveMinimum")):
        if not _reaches(_limit(sent, sign, *keywords), _limit(taken, sign, *keywords)):
            differs(BOUND, *keywords)
    for keyword in COUNTS:
        ours, theirs = sent.get(keyword), taken.get(keyword)
        if keyword.startswith("min"):
            if (theirs or 0) > (ours or 0):
                differs(BOUND, keyword)
        elif theirs is not None and (ours is None or ours > theirs):
            differs(BOUND, keyword)
    for keyword in ("multipleOf", "pattern"):
        ours, theirs = sent.get(keyword), taken.get(keyword)
        if theirs is None or ours == theirs:
            continue
        multiples = sent.get("type") == "integer" and isinstance(ours, int) and isinstance(theirs, int) and theirs
        if not multiples or ours % theirs:
            differs(BOUND if ours is None else LIKENESS, keyword)
    return found


def _reaches(ours: _Limit | None, theirs: _Limit | None) -> bool:
    """Whether what is below the one limit is below the other."""
    if theirs is None:
        return True
    return ours is not None and (ours[0] < theirs[0] or (ours[0] == theirs[0] and (ours[1] or not theirs[1])))


def _limit(schema: Schema, sign: int, inclusive: str, exclusive: str) -> _Limit | None:
    """The upper limit that two keywords are; with the sign -1 the lower one, mirrored."""
    limits = [(sign * schema[key], key == exclusive) for key in (inclusive, exclusive) if key in schema]
    limit = min(limits, key=lambda limit: (limit[0], not limit[1]), default=None)
    if limit is None or schema.get("type") != "integer":
        return limit
    number, beyond = limit
    return (ceil(number) - 1 if beyond else floor(number)), False


def _shown(schema: Schema, keywords: tuple[str, ...]) -> str:
    there = [f"{keyword} {schema[keyword]}" for keyword in keywords if keyword in schema]
    return " and ".join(there) or f"no {keywords[0]}"

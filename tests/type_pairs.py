"""Pairs of types, an old one and a new one that is like it, for tests of what may change."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal, NamedTuple, Union
from uuid import UUID

from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    AnyUrl,
    ConfigDict,
    Field,
    HttpUrl,
    SecretStr,
    TypeAdapter,
    ValidationError,
    create_model,
)


class Word(Enum):
    a = "a"
    b = "b"


class Number(IntEnum):
    one = 1
    two = 2


class More(IntEnum):
    one = 1
    two = 2
    three = 3


INTEGERS = [
    int,
    float,
    bool,
    Decimal,
    Number,
    More,
    Literal[1],
    Literal[1, 2],
    Literal[True],
    Literal[1, "a"] | None,
    Annotated[int, Field(ge=0)],
    Annotated[int, Field(gt=0)],
    Annotated[int, Field(ge=1, le=10)],
    Annotated[int, Field(lt=11)],
    Annotated[int, Field(multiple_of=2)],
    Annotated[int, Field(multiple_of=4)],
    Annotated[float, Field(ge=0)],
    Annotated[float, Field(gt=0, le=10.5)],
    Annotated[float, Field(multiple_of=0.5)],
    Annotated[Decimal, Field(ge=1)],
    Any,
]
TEXTS = [
    str,
    Word,
    Literal["a"],
    Literal["a", "b"],
    Literal["a", "b", "ab"],
    Annotated[str, Field(max_length=1)],
    Annotated[str, Field(min_length=1)],
    Annotated[str, Field(min_length=2, max_length=3)],
    Annotated[str, Field(pattern="^a")],
    bytes,
    Annotated[bytes, Field(max_length=3)],
    Annotated[bytes, Field(min_length=1)],
    date,
    datetime,
    time,
    timedelta,
    UUID,
    IPv4Address,
    SecretStr,
    AnyUrl,
    HttpUrl,
    Any,
    None,
]
KINDS = [
    "scalar",
    "same",
    "same",
    "same",
    "same",
    "wrapped",
    "set",
    "union",
    "optional",
    "model",
    "model",
    "tree",
    "tags",
]
EXTRAS = ["ignore", "ignore", "allow", "forbid"]
WRAPPERS = [
    lambda inner: inner,
    lambda inner: list[inner],
    lambda inner: Annotated[list[inner], Field(max_length=2)],
    lambda inner: Annotated[list[inner], Field(min_length=1)],
    lambda inner: tuple[inner, ...],
    lambda inner: tuple[inner, inner],
    lambda inner: tuple[inner, int],
    lambda inner: dict[str, inner],
    lambda inner: dict[Literal["a", "b"], inner],
    lambda inner: dict[Annotated[str, Field(pattern="^a")], inner],
    lambda inner: Annotated[dict[str, inner], Field(max_length=1)],
    lambda inner: NamedTuple("Named", [("x", inner), ("y", int)]),
]


@st.composite
def type_pairs(draw, depth: int = 3) -> tuple[Any, Any]:
    """An old type and a new one."""
    pair = type_pairs(depth=depth - 1)
    kind = draw(st.sampled_from(KINDS))
    if depth <= 0 or kind == "scalar":
        family = draw(st.sampled_from([INTEGERS, TEXTS, INTEGERS + TEXTS]))
        old = draw(st.sampled_from(family))
        return old, draw(st.sampled_from([old, *family]))
    old, new = draw(pair)
    if kind == "same":
        return old, old
    if kind == "wrapped":
        wrapper = draw(st.sampled_from(WRAPPERS))
        other = wrapper if draw(st.booleans()) else draw(st.sampled_from(WRAPPERS))
        return wrapper(old), other(new)
    if kind == "set":
        sizes = st.sampled_from([{}, {"max_length": 2}, {"min_length": 2}])
        old, new = draw(st.sampled_from(INTEGERS[:8])), draw(st.sampled_from(INTEGERS[:8]))
        made = [draw(st.sampled_from([list, set, set])) for _ in range(2)]
        return Annotated[made[0][old], Field(**draw(sizes))], Annotated[made[1][new], Field(**draw(sizes))]
    if kind == "union":
        others = draw(pair)
        more = draw(st.sampled_from([INTEGERS, TEXTS]))
        return _union(old, others[0]), _union(new, others[1], draw(st.sampled_from(more)))
    if kind == "optional":
        sides = draw(st.sampled_from([(True, True), (False, True), (True, False)]))
        return _union(old, None) if sides[0] else old, _union(new, None) if sides[1] else new
    if kind == "tree":
        return draw(_trees(old)), draw(_trees(new))
    if kind == "tags":
        return draw(_tagged(old)), draw(_tagged(new))
    return draw(_models((old, new), draw(pair)))


def _union(*types: Any) -> Any:
    return Union[types]  # noqa: UP007


@st.composite
def _models(draw, first: tuple[Any, Any], second: tuple[Any, Any]) -> tuple[Any, Any]:
    made = []
    for side in range(2):
        fields: dict[str, Any] = {}
        for name, pair in (("a", first), ("b", second), ("c", (int, int))):
            if name == "a" or draw(st.booleans()):
                alias = draw(st.sampled_from([None, None, "a", "b", "z"]))
                kind = Annotated[pair[side], Field(validation_alias=AliasChoices(name, alias))] if alias else pair[side]
                fields[name] = (kind, draw(st.sampled_from([..., ..., _default(pair[side])])))
        config = ConfigDict(extra=draw(st.sampled_from(EXTRAS)), protected_namespaces=())
        made.append(create_model("M", __config__=config, **fields))
    return made[0], made[1]


def _default(annotation: Any) -> Any:
    """A default that is of a type, so that it can be sent."""
    adapter = TypeAdapter(annotation)
    for text in ("null", "1", '"a"', '""', "[]", "{}"):
        try:
            return adapter.validate_json(text, strict=True)
        except ValidationError:
            continue
    return ...


@st.composite
def _trees(draw, value: Any) -> Any:
    """A model that holds itself in one of several ways."""
    shape = draw(st.sampled_from(["Tree | None", "list[Tree]", "dict[str, Tree]", "Tree | list[Tree] | None"]))
    default = [] if shape == "list[Tree]" else {} if shape.startswith("dict") else None
    more: dict[str, Any] = draw(st.sampled_from([{}, {}, {"more": (int, 1)}, {"more": (int, ...)}]))
    made = create_model("Tree", value=(value, ...), below=(shape, default), **more)
    made.model_rebuild(_types_namespace={"Tree": made})
    return made


@st.composite
def _tagged(draw, value: Any) -> Any:
    """A union of models that are told by a field, or by nothing."""
    members = []
    for tag in draw(st.lists(st.sampled_from(["x", "y", "z"]), min_size=1, max_size=3, unique=True)):
        fields: dict[str, Any] = {"kind": (Literal[tag], draw(st.sampled_from([..., ..., tag])))}
        if draw(st.booleans()):
            fields["value"] = (value, ...)
        members.append(create_model(tag.upper(), **fields))
    if len(members) == 1:
        return members[0]
    return Annotated[_union(*members), Field(discriminator="kind")] if draw(st.booleans()) else _union(*members)

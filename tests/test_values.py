"""How the values of a declared type are written and read; tests/wire has the round trips."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, field_serializer
from pydantic_core import PydanticSerializationError
from typing_extensions import TypedDict

from ephaptic_grpc.limits import JSON_DEPTH, JSON_DIGITS
from ephaptic_grpc.values import Value


class User(BaseModel):
    name: str
    age: int | None = None


class Point(BaseModel):
    x: float
    label: str | None = None
    rest: dict[str, Any] = {}


class Strange(BaseModel):
    """Says itself what no number is in JSON."""

    model_config = ConfigDict(ser_json_inf_nan="null")
    x: float
    label: str | None


class Handled(BaseModel):
    x: float

    @field_serializer("x")
    def finite(self, x: float) -> float | None:
        return x if math.isfinite(x) else None


class HandledInJson(BaseModel):
    x: float

    @field_serializer("x", when_used="json")
    def finite(self, x: float) -> float | None:
        return x if math.isfinite(x) else None


@dataclasses.dataclass
class Spot:
    x: float
    label: str | None = None


class Row:
    name, age, password = "Ada", 36, "hunter2"


@dataclasses.dataclass
class Blob:
    data: bytes


class Parcel(TypedDict):
    data: bytes


@pytest.mark.parametrize(
    ("annotation", "value", "json"),
    [
        (bytes, b"\xff\xfe", '"__4="'),
        (list[bytes | None], [b"\xff", None], '["_w==",null]'),
        (Blob, Blob(b"\xff"), '{"data":"_w=="}'),
        (Parcel, {"data": b"\xff"}, '{"data":"_w=="}'),
        (Any, {"data": [b"\xff"]}, '{"data":["_w=="]}'),
        (Any, Blob(b"\xff"), '{"data":"_w=="}'),
        (User, User(name="é"), '{"name":"é","age":null}'),
        (User, Row(), '{"name":"Ada","age":36}'),
        (list[User], (Row(),), '[{"name":"Ada","age":36}]'),
        (None, None, "null"),
        (Any, [None, "null", {"a": 1.5}], '[null,"null",{"a":1.5}]'),
        (Point | None, Point(x=1), '{"x":1.0,"label":null,"rest":{}}'),
        (Strange, Strange(x=math.inf, label=None), '{"x":null,"label":null}'),
        (Handled, Handled(x=math.nan), '{"x":null}'),
        (HandledInJson, HandledInJson(x=math.nan), '{"x":null}'),
        (int, "7", "7"),
    ],
)
def test_dump(annotation, value, json):
    assert Value(annotation).dump(value).decode() == json


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(int, "x"), (User, {"age": 3}), (float, float("inf")), (list[float], [float("nan")]), (int, None), (int, 1.5)],
)
def test_a_value_of_another_type_does_not_pass(annotation, value):
    with pytest.raises(ValidationError):
        Value(annotation).dump(value)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Any, math.nan),
        (Any, {"a": [1, -math.inf]}),
        (dict, {"a": math.nan}),
        (Point, Point(x=math.inf)),
        (Point, Point(x=1, rest={"a": {"b": (math.nan,)}})),
        (list[Point | None], [None, Point(x=math.nan, label="null")]),
        (Spot, Spot(math.nan)),
        (Any, Spot(math.nan)),
        (Iterable[float], [math.nan]),
    ],
)
def test_what_is_no_number_never_becomes_null(annotation, value):
    with pytest.raises((PydanticSerializationError, ValidationError), match=r"no NaN and no Infinity|finite number"):
        Value(annotation).dump(value)


def test_nor_does_a_model_that_was_changed_behind_its_back():
    user = User(name="Ada")
    user.age = "hunter2"  # type: ignore[assignment]
    for annotation, value in [(User, user), (list[User], [user]), (dict[str, User | None], {"a": user})]:
        with pytest.raises(PydanticSerializationError):
            Value(annotation).dump(value)


def test_a_model_keeps_its_own_configuration():
    class Hex(BaseModel):
        model_config = ConfigDict(ser_json_bytes="hex", val_json_bytes="hex")
        data: bytes

    value = Value(list[Hex])
    assert value.dump([Hex(data=b"\xff")]) == b'[{"data":"ff"}]'
    assert value.load(b'[{"data":"ff"}]') == [Hex(data=b"\xff")]


@pytest.mark.parametrize("json", [b"", b"{", b"1 2", b'"\xff"', b"nul"])
def test_what_is_no_json_is_not_read(json):
    with pytest.raises(ValueError, match="JSON"):
        Value(Any).load(json)


@pytest.mark.parametrize(
    ("fits", "one_past", "says"),
    [
        (b"[" * JSON_DEPTH + b"]" * JSON_DEPTH, b"[" * (JSON_DEPTH + 1), "recursion limit"),
        (b"9" * JSON_DIGITS, b"9" * (JSON_DIGITS + 1), "number out of range"),
    ],
)
def test_depth_and_digits_are_bounded(fits, one_past, says):
    Value(Any).load(fits)
    for json in (one_past, one_past * 1000):
        with pytest.raises(ValidationError, match=says):
            Value(Any).load(json)

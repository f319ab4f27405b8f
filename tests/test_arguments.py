"""Arguments to JSON and back; tests/wire has the calls."""

import inspect
import math
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, computed_field
from pydantic_core import PydanticSerializationError

from ephaptic_grpc import ServiceError
from ephaptic_grpc.arguments import Arguments


class Tree(BaseModel):
    value: int
    children: list["Tree"] = []


class Spot(BaseModel):
    x: float


class Measured(BaseModel):
    x: float | None
    label: str | None = None

    @computed_field
    def doubled(self) -> float:
        return math.nan


def arguments(function):
    return Arguments(inspect.signature(function, eval_str=True))


def both(a: int, b: str = "b", *, c: float = 1.5) -> None: ...
def first(a: int, b: int = 2, /) -> None: ...
def rest(a: int, b: int = 2, *more: int) -> None: ...
def named(a: int = 0, **more: bytes) -> None: ...
def tree(tree: Tree, trees: list[Tree] | None = None) -> None: ...
def nothing() -> None: ...
def anything(*values: Any) -> None: ...
def spot(spot: Spot) -> None: ...


TREE = Tree(value=1, children=[Tree(value=2)])


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "json"),
    [
        (both, (1,), {}, '{"a":1}'),
        (both, (1, "x"), {"c": 2.0}, '{"a":1,"b":"x","c":2.0}'),
        (both, (), {"c": 2.0, "a": 1}, '{"c":2.0,"a":1}'),
        (first, (1,), {}, "[1]"),
        (rest, (1,), {}, "[1]"),
        (rest, (1,), {"b": 3}, "[1,3]"),
        (rest, (1, 2, 3, 4), {}, "[1,2,3,4]"),
        (named, (), {"x y": b"\xff", 'q"': b""}, '{"x y":"_w==","q\\"":""}'),
        (tree, (TREE,), {"trees": [TREE]}, None),
        (nothing, (), {}, "{}"),
    ],
)
def test_what_a_client_writes_a_server_reads(function, args, kwargs, json):
    both_sides = arguments(function)
    written = both_sides.dump(args, kwargs)
    assert json is None or written.decode() == json
    read_args, read_kwargs = both_sides.load(written)
    expected, found = (
        inspect.signature(function).bind(*args, **kwargs),
        inspect.signature(function).bind(*read_args, **read_kwargs),
    )
    for bound in (expected, found):
        bound.apply_defaults()
    assert found.arguments == expected.arguments


@pytest.mark.parametrize("json", [b"", b"{}", b"[]"])
def test_no_arguments_can_be_said_in_three_ways(json):
    args, kwargs = arguments(nothing).load(json)
    assert (tuple(args), dict(kwargs)) == ((), {})


def test_by_position_and_by_name_are_the_same():
    assert both(*arguments(both).load(b'[1,"x"]')[0]) == both(**arguments(both).load(b'{"a":1,"b":"x"}')[1])


def test_a_value_of_another_type_goes_as_it_is_for_the_server_to_judge():
    assert arguments(both).dump(("x",), {"c": None}) == b'{"a":"x","c":null}'
    assert arguments(tree).dump(({"value": "x"},), {}) == b'{"tree":{"value":"x"}}'


@pytest.mark.parametrize("function", [both, anything, spot])
def test_there_is_no_nan_in_json(function):
    taken = arguments(function)
    for json in (b"[NaN]", b'[Infinity, "NaN"]', b'{"spot": {"x": -Infinity}, "a": 1, "c": NaN}'):
        with pytest.raises(ServiceError, match=r"no NaN and no Infinity|finite number"):
            taken.load(json)
    with pytest.raises(ServiceError, match="Invalid JSON: EOF"):
        taken.load(b'["NaN')


def test_a_model_with_nan_does_not_go_as_one_with_none():
    def maybe(measured: Measured, measurements: list[Measured] | None = None) -> None: ...

    both_sides = arguments(maybe)
    none = Measured(x=None, label="NaN null")
    assert both_sides.load(both_sides.dump((none, [none]), {}))[1] == {"measured": none, "measurements": [none]}
    for args in ((Measured(x=math.nan),), (none, [none, Measured(x=math.inf)])):
        with pytest.raises(PydanticSerializationError, match="no NaN and no Infinity"):
            both_sides.dump(args, {})


def test_text_may_say_nan():
    assert arguments(anything).load(b'["NaN", {"Infinity": "-Infinity"}]')[0] == ("NaN", {"Infinity": "-Infinity"})


def test_the_last_of_two_equal_names_wins_as_in_javascript():
    assert arguments(both).load(b'{"a":1,"a":2}')[1]["a"] == 2


def test_only_what_stands_before_a_named_argument_is_filled_in():
    def f(a: int, /, b: int = Field(5), c: int = 3, d: int | None = None) -> None: ...

    assert arguments(f).dump((1,), {"c": 4}) == b"[1,5,4]"
    assert arguments(f).dump((1,), {}) == b"[1]"


def test_a_default_can_be_in_the_annotation():
    numbers = Annotated[list[int], Field(default_factory=lambda: [7])]

    def by_name(a: int, b: numbers, *, c: Annotated[int, Field(default=5)], d: int = Field(gt=0)) -> None: ...
    def by_position(a: int, b: numbers, c: Annotated[int, Field(default=5)], /) -> None: ...
    def rest(a: numbers, b: Annotated[int, Field(default=5)], *more: int) -> None: ...

    assert arguments(by_name).dump((1,), {"d": 2}) == b'{"a":1,"d":2}'
    assert arguments(by_position).dump((1,), {}) == b"[1]"
    assert arguments(rest).dump((), {}) == b"[]"
    assert arguments(rest).dump((), {"b": 1}) == b"[[7],1]"
    with pytest.raises(TypeError, match=r"missing a required .*'d'"):
        arguments(by_name).dump((1,), {})
    with pytest.raises(TypeError, match=r"missing a required .*'a'"):
        arguments(by_position).dump((), {})

"""How functions are called, for real: every kind of parameter, of function and of what a function gives."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Annotated, Any, Literal

import grpc
import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, Json, computed_field
from typing_extensions import TypedDict, Unpack

from ephaptic_grpc import CallError, Service, connect_sync


@pytest.fixture
def service():
    return Service("call.v1.CallService")


class Public(BaseModel):
    name: str


class Private(Public):
    password: str = "hunter2"


class Options(TypedDict, total=False):
    depth: int
    data: bytes
    model: Public
    aliased: Annotated[int, Field(alias="Aliased")]


# Parameters


def test_every_way_to_pass_arguments(serve, service):
    @service.expose
    def both(a: int, b: str = "b", *, c: float = 1.5, d: list[int] | None = None) -> str:
        return f"{a!r} {b!r} {c!r} {d!r}"

    @service.expose
    def first(a: int, b: int = 2, /, c: int = 3) -> list[int]:
        return [a, b, c]

    @service.expose
    def only_by_name(*, a: int, b: int = 2) -> list[int]:
        return [a, b]

    @service.expose
    def rest(a: str, b: bytes = b"", *more: bytes) -> list[str]:
        return [a, *map(repr, (b, *more))]

    @service.expose
    def named(a: int, **more: Public) -> str:
        return repr((a, more))

    @service.expose
    def unpacked(**options: Unpack[Options]) -> str:
        return repr(options)

    client = serve(service).client
    assert client.both(1) == "1 'b' 1.5 None"
    assert client.both(1, "x", c=2, d=[]) == "1 'x' 2.0 []"
    assert client.both(d=[1], b="", a=0) == "0 '' 1.5 [1]"
    assert client.first(1) == [1, 2, 3]
    assert client.first(1, c=5) == [1, 2, 5]
    assert client.first(1, 4, 5) == [1, 4, 5]
    assert client.only_by_name(a=1) == [1, 2]
    assert client.rest("x", b"\xff", b"\xfe", b"") == ["x", r"b'\xff'", r"b'\xfe'", "b''"]
    assert client.named(1, x=Public(name="Ada"), **{"b c": Public(name="ö")}) == (
        "(1, {'x': Public(name='Ada'), 'b c': Public(name='ö')})"
    )
    assert client.unpacked(depth=1, data=b"\xff", model=Public(name="Ada"), aliased=3) == (
        r"{'depth': 1, 'data': b'\xff', 'model': Public(name='Ada'), 'aliased': 3}"
    )
    assert client.unpacked() == "{}"


def test_a_caller_that_knows_no_types_can_do_the_same(serve, service):
    @service.expose
    def both(a: int, b: str = "b", *, c: float = 1.5) -> str:
        return f"{a!r} {b!r} {c!r}"

    @service.expose
    def rest(a: int, *more: int) -> list[int]:
        return [a, *more]

    with connect_sync(serve(service).address, service.name) as client:
        assert client.both(1, "x") == "1 'x' 1.5"
        assert client.both(a=1, c=2) == "1 'b' 2.0"
        assert client.rest(1, 2, 3) == [1, 2, 3]
        with pytest.raises(TypeError, match="all by position, or all by name"):
            client.both(1, c=2)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1, 2, 3), {}), ((1,), {"a": 2}), ((1,), {"d": 3}), ((1,), {"b": 2}), ((), {"c": 3})],
)
def test_a_wrong_call_is_a_type_error_in_pythons_own_words(serve, service, args, kwargs):
    @service.expose
    def f(a: int, /, c: int = 2) -> None: ...

    with pytest.raises(TypeError) as local:
        f(*args, **kwargs)
    with pytest.raises(TypeError) as remote:
        serve(service).client.f(*args, **kwargs)
    assert "f()" in str(local.value)
    assert str(remote.value)


ODD_NAMES = ["self", "cls", "json", "schema", "model_config", "model_dump", "copy", "timeout", "metadata", "name"]
ODD_NAMES += ["args", "kwargs", "function", "method", "request", "message", "context"]


def test_no_name_of_a_parameter_is_taken(serve, service):
    namespace: dict[str, Any] = {}
    exec(f"def odd({': int, '.join(ODD_NAMES)}: int) -> list[int]: return [{', '.join(ODD_NAMES)}]", namespace)
    service.expose(namespace["odd"])
    service.expose(name="odd_stream")(lambda self, timeout: iter([self, timeout]))
    client = serve(service).client
    numbers = list(range(len(ODD_NAMES)))
    assert client.odd(*numbers) == numbers
    assert client.odd(**dict(zip(ODD_NAMES, numbers, strict=True))) == numbers
    assert client.call("odd", **dict(zip(ODD_NAMES, numbers, strict=True))) == numbers
    assert client.bind(namespace["odd"])(*numbers) == numbers


def test_a_parameter_with_an_alias_is_called_by_its_alias_on_the_wire(serve, service):
    @service.expose
    def f(
        a: Annotated[int, Field(alias="fromDate")],
        b: Annotated[int, Field(validation_alias=AliasChoices("second", "2nd"))] = 0,
    ) -> list[int]:
        return [a, b]

    served = serve(service)
    assert served.client.f(1, b=2) == [1, 2]
    assert served.client.f(a=1) == [1, 0]
    with connect_sync(served.address, service.name) as untyped:
        assert untyped.f(fromDate=1) == [1, 0]
        assert untyped.f(1, 2) == [1, 2]


def test_defaults_can_come_from_field(serve, service):
    @service.expose
    def f(a: int = Field(default=5, gt=2), b: list[int] = Field(default_factory=list)) -> tuple[int, list[int]]:  # noqa: B008
        return a, b

    client = serve(service).client
    assert client.f() == (5, [])
    assert client.f(3, [1]) == (3, [1])
    with pytest.raises(CallError, match="INVALID_ARGUMENT: bad arguments: a: Input should be greater than 2"):
        client.f(1)


def test_what_the_server_computes_itself_is_not_sent_to_it(serve, service):
    class Square(BaseModel):
        model_config = ConfigDict(extra="forbid")
        side: int

        @computed_field
        @property
        def area(self) -> int:
            return self.side**2

    @service.expose
    def area(square: Square) -> int:
        return square.area

    assert serve(service).client.area(Square(side=3)) == 9


def test_json_in_json_is_sent_as_it_is_read(serve, service):
    @service.expose
    def total(numbers: Json[list[int]]) -> int:
        return sum(numbers)

    assert serve(service).client.total([1, 2]) == 3


def test_an_iterable_is_one_argument_that_is_checked_before_the_call(serve, service):
    @service.expose
    def twice(numbers: Iterable[int], more: Iterable[int] | None = None) -> list[int]:
        return [*numbers, *numbers, *(more or ())]

    client = serve(service).client
    assert client.twice([1, 2]) == [1, 2, 1, 2]
    assert client.twice((n for n in [1]), {3}) == [1, 1, 3]
    for bad in ({"numbers": ["x"]}, {"numbers": [], "more": ["x"]}):
        with pytest.raises(CallError, match=r"INVALID_ARGUMENT: bad arguments: (numbers|more)\[0\]"):
            client.twice(**bad)


def test_what_json_cannot_carry_is_an_error_of_the_caller(serve, service):
    @service.expose
    def f(a) -> None: ...

    client = serve(service).client
    for value in (object(), len, "\ud800"):
        for call in (lambda: client.f(value), lambda: client.f(a=value)):  # noqa: B023
            with pytest.raises(ValueError, match=r"^f\(\): a: .*serializ"):
                call()


# Kinds of functions


FALSY: list[Any] = [0, "", None, [], {}, False, 0.0]


async def async_generator():
    for value in FALSY:
        yield value


def generator():
    yield from FALSY


async def gives_async_iterator() -> AsyncIterator[Any]:
    return async_generator()


async def gives_iterator() -> Iterator[Any]:
    return iter(FALSY)


def gives_async_iterator_at_once() -> AsyncIterator[Any]:
    return async_generator()


def gives_iterator_at_once() -> Iterator[Any]:
    return iter(FALSY)


def passed_on(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def looped_over(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async for item in function(*args, **kwargs):
            yield item

    return wrapper


def yielded_from(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Iterator[Any]:
        yield from function(*args, **kwargs)

    return wrapper


def awaited(function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    "function",
    [
        async_generator,
        generator,
        gives_async_iterator,
        gives_iterator,
        gives_async_iterator_at_once,
        gives_iterator_at_once,
        passed_on(async_generator),
        passed_on(generator),
        passed_on(passed_on(async_generator)),
        looped_over(async_generator),
        yielded_from(generator),
        awaited(gives_async_iterator),
        functools.partial(async_generator),
        functools.partial(passed_on(generator)),
    ],
)
def test_falsy_values_arrive_like_any_other_from_every_kind_of_stream(serve, service, function):
    service.expose(name="items")(function)
    items = list(serve(service).client.items())
    assert items == FALSY
    assert [type(item) for item in items] == [type(value) for value in FALSY]


@pytest.mark.parametrize("value", FALSY, ids=repr)
def test_falsy_values_arrive_like_any_other_from_a_function(serve, service, value):
    service.expose(name="value")(lambda: value)

    @service.expose
    async def later():
        return value

    client = serve(service).client
    assert client.value() == value
    assert client.later() == value


async def double(n: int) -> int:
    return 2 * n


def double_now(n: int) -> int:
    return 2 * n


class Room:
    factor = 2

    def double(self, n: int) -> int:
        return self.factor * n

    async def double_later(self, n: int) -> int:
        return self.factor * n

    @classmethod
    def double_of_class(cls, n: int) -> int:
        return cls.factor * n

    @staticmethod
    def double_static(n: int) -> int:
        return 2 * n

    double_of_three = functools.partialmethod(double, 3)


room = Room()


@pytest.mark.parametrize(
    "function",
    [
        double,
        double_now,
        passed_on(double),
        passed_on(double_now),
        awaited(double),
        functools.cache(double_now),
        functools.partial(double),
        functools.partial(functools.partial(passed_on(double))),
        room.double,
        room.double_later,
        Room.double_of_class,
        Room.double_static,
        functools.partial(room.double),
        lambda n: 2 * n,
    ],
)
def test_every_kind_of_function_that_gives_one_value(serve, service, function):
    service.expose(name="double")(function)
    client = serve(service).client
    assert client.double(3) == 6
    assert client.double(n=3) == 6
    assert client.bind(function)(3) == 6


def test_a_partial_has_the_parameters_that_are_left(serve, service):
    def f(a: int, b: int, *, c: int = 3) -> list[int]:
        return [a, b, c]

    service.expose(name="first")(functools.partial(f, 1))
    service.expose(name="named")(functools.partial(f, b=2))
    service.expose(name="method")(room.double_of_three)
    client = serve(service).client
    assert client.first(5) == [1, 5, 3]
    assert client.first(b=5, c=6) == [1, 5, 6]
    assert client.named(5) == [5, 2, 3]
    assert client.named(5, b=6) == [5, 6, 3]
    assert client.method() == 6


def test_an_iterable_is_one_value(serve, service):
    @service.expose
    def numbers() -> Iterable[int]:
        return (n for n in range(3))

    @service.expose
    async def of_a_set() -> Iterable[int]:
        return {1}

    @service.expose
    def generated() -> Iterable[int]:
        yield 1

    client = serve(service).client
    assert client.numbers() == [0, 1, 2]
    assert client.of_a_set() == [1]
    assert list(client.generated()) == [1]  # a generator streams, whatever it says


# Types


def test_types_local_to_a_function_and_defined_later(serve, service):
    class Local(BaseModel):
        number: int

    @service.expose
    def f(local: Local, later: list[Later]) -> dict[str, Local]:
        return {later[0].name: local}

    class Room:
        @staticmethod
        def g(later: Later) -> Later:
            return later

    service.expose(Room.g)

    class Later(BaseModel):
        name: str

    client = serve(service).client
    local = Local(number=1)
    assert client.f(local, [Later(name="y")]) == {"y": local}
    assert client.g(Later(name="z")) == Later(name="z")


def test_a_name_means_what_it_means_where_the_function_was_defined(serve, service):
    class Public(BaseModel):  # not that of the module, of which `greet` speaks
        number: int

    service.expose(greet)
    assert serve(service).client.greet(_Public(name="Ada")) == "Ada"
    assert Public(number=1)


def greet(who: Public) -> str:
    return who.name


_Public = Public


# Values


@pytest.mark.parametrize(
    "value",
    [
        Private(name="Ada"),
        {"name": "Ada", "password": "hunter2"},
        dataclasses.make_dataclass("Row", ["name", "password"])("Ada", "hunter2"),
    ],
    ids=["subclass", "dict", "attributes"],
)
def test_what_the_declared_type_does_not_name_never_leaves(serve, service, value):
    @service.expose
    def one() -> Public:
        return value

    @service.expose
    async def several() -> list[Public]:
        return [value]

    @service.expose
    def items() -> Iterator[Public | None]:
        yield value

    @service.expose(response_model=Public)
    def named():
        return value

    @service.expose(response_model=Public)
    async def items_named():
        yield value

    with connect_sync(serve(service).address, service.name) as client:
        assert client.one() == {"name": "Ada"}
        assert client.several() == [{"name": "Ada"}]
        assert list(client.items()) == [{"name": "Ada"}]
        assert client.named() == {"name": "Ada"}
        assert list(client.items_named()) == [{"name": "Ada"}]


def mutated() -> Public:
    user = Public(name="Ada")
    user.name = 3  # type: ignore[assignment]
    return user


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, "hunter2"),
        (list[int], [1, "hunter2"]),
        (Public, mutated()),
        (list[Public], [mutated()]),
        (Public, Public.model_construct(name=b"hunter2")),
        (Literal["a"], "hunter2"),
        (str, "\ud800"),
        (float, float("nan")),
        (Any, object()),
        (type(None), "hunter2"),
    ],
)
def test_a_value_that_does_not_fit_is_logged_and_never_sent(serve, service, caplog, annotation, value):
    def one():
        return value

    async def items():
        yield value

    service.expose(response_model=annotation)(one)
    service.expose(response_model=annotation)(items)
    client = serve(service).client
    for call in (client.one, lambda: list(client.items())):
        caplog.clear()
        with caplog.at_level(logging.ERROR, "ephaptic_grpc"), pytest.raises(CallError) as caught:
            call()
        assert caught.value.code is grpc.StatusCode.INTERNAL
        assert "hunter2" not in caught.value.message
        assert caught.value.message.partition("error id ")[2].rstrip(")") in caplog.text

"""What is known about a function once it is exposed."""

import functools
import sys
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from typing import Annotated, Any

import pytest
from pydantic import ValidationError
from typing_extensions import TypeAliasType

from ephaptic_grpc import ExposeError, Service


def procedure(function, **options):
    service = Service("app.v1.AppService")
    service.expose(name="f", **options)(function)
    return service.procedures["f"]


async def coroutine() -> int: ...
def function() -> int: ...
async def async_generator() -> AsyncIterator[int]:
    yield 1


async def async_generator_generator() -> AsyncGenerator[int, None]:
    yield 1


async def async_generator_bare():
    yield 1


def generator() -> Iterator[int]:
    yield 1


def generator_generator() -> Generator[int, None, str]:
    yield 1


def generator_iterable() -> Iterable[int]:
    yield 1


def generator_bare():
    yield 1


async def gives_async_iterator() -> AsyncIterator[int]: ...
def gives_async_iterable() -> AsyncIterable[int]: ...
def gives_iterator() -> Iterator[int]: ...
async def gives_iterator_later() -> Iterator[int]: ...
def gives_bare_iterator() -> Iterator: ...
def gives_annotated() -> Annotated[Iterator[int], "documented"]: ...
def gives_list() -> list[int]: ...
def gives_iterable() -> Iterable[int]: ...
def gives_quoted() -> "Iterator[int]": ...
def gives_nothing() -> None: ...
def untyped(): ...


@functools.wraps(async_generator)
def wrapped(*args: Any) -> Any:
    return async_generator(*args)


@pytest.mark.parametrize(
    ("function", "streams", "threaded", "value_type"),
    [
        (coroutine, False, False, int),
        (function, False, True, int),
        (async_generator, True, False, int),
        (async_generator_generator, True, False, int),
        (async_generator_bare, True, False, Any),
        (generator, True, True, int),
        (generator_generator, True, True, int),
        (generator_iterable, True, True, int),
        (generator_bare, True, True, Any),
        (gives_async_iterator, True, False, int),
        (gives_async_iterable, True, False, int),
        (gives_iterator, True, True, int),
        (gives_iterator_later, True, False, int),
        (gives_bare_iterator, True, True, Any),
        (gives_annotated, True, True, int),
        (gives_list, False, True, list[int]),
        (gives_iterable, False, True, list[int]),
        (gives_quoted, True, True, int),
        (gives_nothing, False, True, type(None)),
        (untyped, False, True, Any),
        (wrapped, True, False, int),
        (functools.partial(wrapped), True, False, int),
    ],
)
def test_what_streams_where_it_runs_and_what_it_gives(function, streams, threaded, value_type):
    found = procedure(function)
    assert (found.streams, found.threaded, found.value_type) == (streams, threaded, value_type)


@pytest.mark.parametrize("annotation", [int, list[int], None])
def test_a_generator_that_says_it_gives_one_value_is_refused(annotation):
    async def asynchronous() -> annotation:
        yield 1

    def synchronous() -> annotation:
        yield 1

    for function, iterator in ((asynchronous, "AsyncIterator"), (synchronous, "Iterator")):
        with pytest.raises(ExposeError, match=rf"{function.__name__} .*a generator.* write {iterator}\["):
            procedure(function)
        assert procedure(function, response_model=int).value_type is int


Json = TypeAliasType("Json", "dict[str, Json] | list[Json] | int | str | None")
Number = TypeAliasType("Number", Annotated[int, "documented"])


def test_a_recursive_alias_is_a_type_as_any_other():
    def same(value: Json) -> Json: ...
    def several() -> Iterator[Json]: ...
    def number() -> Number: ...

    data = {"a": [1, "b", None]}
    for function in (same, several):
        value = procedure(function).value
        assert value.load(value.dump(data)) == data
        with pytest.raises(ValidationError):
            value.dump([1.5])
    assert procedure(number).value.load(b"1") == 1


def test_response_model_takes_the_place_of_the_annotation():
    assert procedure(gives_list, response_model=tuple[str, ...]).value_type == tuple[str, ...]
    assert procedure(generator, response_model=float).value_type is float
    assert procedure(generator, response_model=float).streams


def test_it_knows_its_paths_and_its_documentation():
    def documented(a: int, b: "str" = "x") -> None:
        """The first line.

        More of it.
        """

    found = procedure(functools.partial(documented, 1))
    assert found.path == "/app.v1.AppService/F"
    assert found.doc == "The first line.\n\nMore of it."
    assert {name: p.annotation for name, p in found.signature.parameters.items()} == {"b": str}
    assert procedure(function).doc == ""


NEW_SYNTAX = """
from collections.abc import AsyncIterator, Iterator
from typing import Annotated
type Tokens = AsyncIterator[str]
type Items[T] = Annotated[Iterator[T], "documented"]
type Nested = int | list[Nested]
async def tokens() -> Tokens:
    yield "a"
def items() -> Items[int]: ...
def nested(value: Nested) -> Nested: ...
def several[T: int](value: T) -> list[T]: ...
"""


if sys.version_info >= (3, 12):

    @pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
    def test_type_statements_and_type_parameters(future):
        namespace: dict[str, Any] = {}
        exec(future + NEW_SYNTAX, namespace)
        tokens, items = procedure(namespace["tokens"]), procedure(namespace["items"])
        assert (tokens.streams, tokens.value_type) == (True, str)
        assert (items.streams, items.threaded) == (True, True)
        assert items.value.dump(1) == b"1"
        assert procedure(namespace["nested"]).arguments.load(b"[[1,[2]]]")[0] == ([1, [2]],)
        assert procedure(namespace["several"]).value.dump([1]) == b"[1]"


def test_type_aliases():
    tokens = TypeAliasType("tokens", AsyncIterator[str])

    def aliased() -> tokens: ...

    found = procedure(aliased)
    assert (found.streams, found.threaded, found.value_type) == (True, False, str)

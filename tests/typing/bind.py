"""What type checkers see of a bound function: read by mypy and pyright, never run.

Each ``ignore`` stands for an error that both have to find: one that isn't needed is an error of its own.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

import functools
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from typing import assert_type

from pydantic import BaseModel

from ephaptic_grpc import Client, Service, Stream, SyncClient, SyncStream, connect, connect_sync, expose

service = Service("typing.v1.TypingService")


class User(BaseModel):
    name: str


@service.expose
async def fetch(ident: int, /, city: str = "", *, deep: bool = False) -> User:
    return User(name=f"{ident}{city}{deep}")


@service.expose(name="fetchNow", response_model=User)
def fetch_now(ident: int) -> User:
    return User(name=str(ident))


@service.expose()
async def tokens(message: str) -> AsyncIterator[str]:
    yield message


@expose
async def tokens_generator(message: str) -> AsyncGenerator[str, None]:
    yield message


@expose(name="tokensIterable")
async def tokens_iterable(message: str) -> AsyncIterable[str]:
    yield message


@service.expose
def count(to: int) -> Iterator[int]:
    yield from range(to)


@service.expose
def count_generator(to: int) -> Generator[int, None, None]:
    yield from range(to)


@service.expose
async def opened(path: str) -> AsyncIterator[bytes]:
    return _chunks(path)


@service.expose
def opened_at_once(path: str) -> AsyncIterator[bytes]:
    return _chunks(path)


@service.expose
async def lines(path: str) -> Iterator[str]:
    return iter([path])


async def _chunks(path: str) -> AsyncIterator[bytes]:
    yield path.encode()


@service.expose
def listed(n: int) -> list[int]:
    return [n]


@service.expose
async def listed_later(n: int) -> list[User]:
    return [User(name=str(n))]


@service.expose
def many(n: int) -> Iterable[int]:
    return [n]


@service.expose
async def many_later(n: int) -> Iterable[int]:
    return [n]


@service.expose
def text() -> str:
    return ""


@service.expose
def pairs() -> dict[str, tuple[int, ...]]:
    return {}


@service.expose
def nothing(*values: int) -> None: ...


class Room:
    async def enter(self, name: str) -> int:
        return len(name)

    async def watch(self, name: str) -> AsyncIterator[User]:
        yield User(name=name)


room = Room()
service.expose(room.enter)
service.expose(name="watchRoom")(room.watch)
partly = functools.partial(fetch_now, 1)
service.expose(name="partly")(partly)


async def exposing_keeps_the_function() -> None:
    assert_type(listed(1), list[int])
    assert_type(fetch_now(1), User)
    assert_type(await fetch(1, deep=True), User)
    assert_type(tokens("x"), AsyncIterator[str])
    assert_type(tokens_generator("x"), AsyncGenerator[str, None])
    assert_type(tokens_iterable("x"), AsyncIterable[str])
    service.expose(3)  # type: ignore[call-overload]
    service.expose(listed, name=3)  # type: ignore[call-overload]
    service.expose("name")  # type: ignore[call-overload]


async def asynchronous() -> None:
    async with connect("localhost:50051", service, timeout=5, metadata={"x": "y"}) as client:
        assert_type(client, Client)
        assert_type(client.with_options(timeout=None), Client)

        # One value
        assert_type(await client.bind(fetch)(1, "Ulm", deep=True), User)
        assert_type(await client.bind(fetch)(1), User)
        assert_type(await client.bind(fetch_now)(ident=1), User)
        assert_type(await client.bind(listed)(1), list[int])
        assert_type(await client.bind(listed_later)(n=1), list[User])
        assert_type(await client.bind(many)(1), Iterable[int])
        assert_type(await client.bind(many_later)(1), Iterable[int])
        assert_type(await client.bind(text)(), str)
        assert_type(await client.bind(pairs)(), dict[str, tuple[int, ...]])
        assert_type(await client.bind(room.enter)("x"), int)
        assert_type(await client.bind(partly)(), User)
        await client.bind(nothing)(1, 2, 3)

        # A stream
        assert_type(client.bind(tokens)("x"), Stream[str])
        assert_type(client.bind(tokens_generator)("x"), Stream[str])
        assert_type(client.bind(tokens_iterable)("x"), Stream[str])
        assert_type(client.bind(count)(to=1), Stream[int])
        assert_type(client.bind(count_generator)(1), Stream[int])
        assert_type(client.bind(opened)("x"), Stream[bytes])
        assert_type(client.bind(opened_at_once)("x"), Stream[bytes])
        assert_type(client.bind(lines)("x"), Stream[str])
        assert_type(client.bind(room.watch)("x"), Stream[User])
        async for user in client.bind(room.watch)("x"):
            assert_type(user, User)
        async for number in client.bind(count)(1):
            assert_type(number, int)
        stream = client.bind(tokens)("x")
        assert_type(await anext(stream), str)
        stream.cancel()

        # Wrong calls
        await client.bind(fetch)()  # type: ignore[call-arg]
        await client.bind(fetch)("1")  # type: ignore[arg-type]
        await client.bind(fetch)(ident=1)  # type: ignore[call-arg]
        await client.bind(fetch)(1, "Ulm", True)  # type: ignore[call-arg]
        await client.bind(fetch)(1, deeper=True)  # type: ignore[call-arg]
        await client.bind(nothing)("x")  # type: ignore[arg-type]
        await client.bind(room.enter)(room, "x")  # type: ignore[call-arg, arg-type]
        client.bind(tokens)(3)  # type: ignore[arg-type]
        client.bind(tokens)("x", timeout=3)  # type: ignore[call-arg]
        client.bind(count)()  # type: ignore[call-arg]
        client.bind("count")  # type: ignore[call-overload]
        for _ in client.bind(listed)(1):  # type: ignore[attr-defined]
            pass
        for _ in client.bind(count)(1):  # type: ignore[attr-defined]
            pass
        await client.bind(text)() + 1  # type: ignore[operator]

        # Without bind anything goes.
        await client.fetch("anything", at="all")
        async for _ in client.tokens():
            pass


def blocking() -> None:
    with connect_sync("localhost:50051", service) as client:
        assert_type(client, SyncClient)

        assert_type(client.bind(fetch)(1, "Ulm", deep=True), User)
        assert_type(client.bind(fetch_now)(ident=1), User)
        assert_type(client.bind(listed)(1), list[int])
        assert_type(client.bind(listed_later)(n=1), list[User])
        assert_type(client.bind(many)(1), Iterable[int])
        assert_type(client.bind(many_later)(1), Iterable[int])
        assert_type(client.bind(text)(), str)
        assert_type(client.bind(room.enter)("x"), int)
        assert_type(client.bind(partly)(), User)

        assert_type(client.bind(tokens)("x"), SyncStream[str])
        assert_type(client.bind(tokens_generator)("x"), SyncStream[str])
        assert_type(client.bind(tokens_iterable)("x"), SyncStream[str])
        assert_type(client.bind(count)(to=1), SyncStream[int])
        assert_type(client.bind(count_generator)(1), SyncStream[int])
        assert_type(client.bind(opened)("x"), SyncStream[bytes])
        assert_type(client.bind(opened_at_once)("x"), SyncStream[bytes])
        assert_type(client.bind(lines)("x"), SyncStream[str])
        for user in client.bind(room.watch)("x"):
            assert_type(user, User)

        client.bind(fetch)()  # type: ignore[call-arg]
        client.bind(fetch)("1")  # type: ignore[arg-type]
        client.bind(fetch)(1, "Ulm", True)  # type: ignore[call-arg]
        client.bind(count)("x")  # type: ignore[arg-type]

        client.fetch("anything", at="all")


def targets_and_services() -> None:
    connect("localhost:50051")
    connect("localhost:50051", "chat.v1.ChatService")
    connect(50051)  # type: ignore[call-overload]
    connect_sync("localhost:50051", fetch)  # type: ignore[call-overload]

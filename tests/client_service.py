"""What the tests of both clients call."""

import asyncio
import functools
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from datetime import date
from decimal import Decimal

from pydantic import BaseModel

from ephaptic_grpc import Service, current_call

service = Service("client.v1.ClientService")
began: list[str] = []
ended: list[str] = []
"""The calls that wait on the server: those that have come so far, and those whose ``finally`` has run."""


class User(BaseModel):
    name: str
    born: date


class Greeter:
    def __init__(self, greeting: str) -> None:
        self.greeting = greeting

    def greet(self, user: User, *, mark: str = "!") -> str:
        return f"{self.greeting}, {user.name}{mark}"


greeter = Greeter("Hello")
service.expose(greeter.greet)


def power(base: int, exponent: int) -> int:
    return base**exponent


square = functools.partial(power, exponent=2)
service.expose(name="square")(square)


@service.expose
async def older(user: User, years: int = 1) -> User:
    return User(name=user.name, born=user.born.replace(year=user.born.year - years))


@service.expose
def price(item: str, count: int) -> Decimal:
    return Decimal("1.10") * count


@service.expose
async def birthdays(user: User, count: int = 3) -> AsyncIterator[User]:
    for years in range(count):
        yield User(name=user.name, born=user.born.replace(year=user.born.year + years))


@service.expose
def numbers(count: int) -> Iterator[int]:
    yield from range(count)


@service.expose
async def many(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


@service.expose
async def ticks(name: str = "ticks") -> AsyncIterator[int]:
    try:
        began.append(name)
        for number in itertools.count():
            yield number
            await asyncio.sleep(0.005)
    finally:
        ended.append(name)


@service.expose
def blocking_ticks() -> Iterator[int]:
    try:
        began.append("blocking_ticks")
        for number in itertools.count():
            yield number
            time.sleep(0.005)
    finally:
        ended.append("blocking_ticks")


@service.expose
async def quiet() -> AsyncIterator[int]:
    try:
        began.append("quiet")
        await asyncio.Event().wait()
        yield 1
    finally:
        ended.append("quiet")


@service.expose
async def wait_for_ever() -> None:
    try:
        began.append("wait_for_ever")
        await asyncio.Event().wait()
    finally:
        ended.append("wait_for_ever")


@service.expose
def sent() -> list[tuple[str, str]]:
    """The caller's own metadata, as Python shows their values."""
    return sorted((key, repr(value)) for key, value in current_call().metadata if key.startswith("x-"))


@service.expose
async def remaining() -> float | None:
    return current_call().remaining()


def unexposed() -> None: ...


ADA = User(name="Ada", born=date(1815, 12, 10))

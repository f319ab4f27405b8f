"""What the tests of HTTP call."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import grpc
from google.protobuf.duration_pb2 import Duration
from pydantic import BaseModel, Field

from ephaptic_grpc import Service, ServiceError, current_call

http = Service("http.v1.HttpService")
events: list[Any] = []
"""What functions have to tell of themselves."""


class Order(BaseModel):
    item: Annotated[str, Field(max_length=5)]
    quantity: Annotated[int, Field(ge=1)] = 1


@http.expose
async def add(a: int, b: int = 1) -> int:
    """The sum.

    Of two numbers.
    """
    return a + b


@http.expose
def in_thread(text: str = "") -> str:
    return f"{text} {threading.current_thread().name.partition('-')[0]}"


@http.expose
async def place(order: Order) -> str:
    if order.item == "fish":
        raise ServiceError(grpc.StatusCode.NOT_FOUND, "no fish, 100% sure, ö\n", details={"item": order.item})
    if order.item == "time":
        raise ServiceError(grpc.StatusCode.ABORTED, "late", details=[Duration(seconds=3), [1]])
    if order.item == "bug":
        raise RuntimeError("secret")
    return f"{order.quantity} x {order.item}"


@http.expose
async def count(to: int, seconds: float = 0) -> AsyncIterator[int]:
    """Numbers, so many seconds apart."""
    for number in range(to):
        yield number
        await asyncio.sleep(seconds)


@http.expose
def blocking_count(to: int) -> Iterator[int]:
    yield from range(to)


@http.expose
async def fail_after(items: int) -> AsyncIterator[int]:
    for number in range(items):
        yield number
    raise ServiceError(grpc.StatusCode.ABORTED, "enough", details={"after": items})


@http.expose
async def large_items(to: int) -> AsyncIterator[str]:
    for number in range(to):
        events.append(number)
        yield "x" * 20_000


@http.expose
async def forever(key: str, seconds: float = 0.01) -> AsyncIterator[int]:
    number = 0
    try:
        while True:
            yield number
            number += 1
            await asyncio.sleep(seconds)
    finally:
        events.append(f"{key} ended")


@http.expose
async def quiet(key: str) -> AsyncIterator[int]:
    try:
        yield 1
        await asyncio.sleep(60)
    finally:
        events.append(f"{key} ended")


@http.expose
async def sleep(seconds: float, key: str = "") -> float | None:
    try:
        events.append(f"{key} began")
        await asyncio.sleep(seconds)
    finally:
        events.append(f"{key} ended")
    return current_call().remaining()


@http.expose
async def stubborn(key: str) -> None:
    """Ignores its cancellation for a while."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await asyncio.sleep(1)
        events.append(f"{key} ended")


@http.expose
async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1)


@http.expose
async def header(name: str) -> list[str]:
    return [str(value) for key, value in current_call().metadata if key == name]

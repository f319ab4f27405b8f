"""What the pages call. It prints when its streams begin and end: the page's clock is the same."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import grpc
from pydantic import BaseModel, Field

from ephaptic_grpc import Service, ServiceError, current_call

web = Service("web.v1.WebService")


class Order(BaseModel):
    """What somebody wants to have."""

    item: Annotated[str, Field(max_length=5)]
    quantity: Annotated[int, Field(ge=1)] = 1


@web.expose
async def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


@web.expose
async def place(order: Order) -> str:
    if order.item == "fish":
        raise ServiceError(grpc.StatusCode.NOT_FOUND, "no fish, 100% sure, ö", details={"item": order.item})
    return f"{order.quantity} x {order.item}"


@web.expose
async def count(to: int, seconds: float = 0) -> AsyncIterator[int]:
    """Numbers, so many seconds apart."""
    for number in range(to):
        yield number
        await asyncio.sleep(seconds)


@web.expose
async def burst(to: int) -> AsyncIterator[dict[str, object]]:
    """Numbers as fast as they go."""
    for number in range(to):
        yield {"number": number, "text": "some words"}


@web.expose
def blocking_count(to: int) -> Iterator[int]:
    yield from range(to)


@web.expose
async def forever(key: str, seconds: float = 0.01) -> AsyncIterator[int]:
    """Numbers until somebody leaves, which is told with the time in milliseconds."""
    number = 0
    try:
        while True:
            yield number
            number += 1
            await asyncio.sleep(seconds)
    finally:
        print(key, time.time() * 1000, flush=True)


@web.expose
async def fail_after(items: int) -> AsyncIterator[int]:
    for number in range(items):
        yield number
        await asyncio.sleep(0.01)
    raise ServiceError(grpc.StatusCode.ABORTED, "enough", details=[{"after": items}, Order(item="tea").model_dump()])


@web.expose
async def sleep(seconds: float) -> float | None:
    await asyncio.sleep(seconds)
    call = current_call()
    return call.remaining() if call else None


@web.expose
async def header(name: str) -> str | None:
    call = current_call()
    assert call is not None
    return next((str(value) for key, value in call.metadata if key == name), None)


@web.expose
async def large() -> dict[str, int]:
    return {"id": 2**53 + 1}


@web.expose
async def quiet(seconds: float) -> AsyncIterator[str]:
    yield "first"
    await asyncio.sleep(seconds)
    yield "last"

"""The same service as ``bare.py``, of exposed functions and called by a typed client."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

from bench.load import TEXT, Calls, Load
from bench.worker import Served
from ephaptic_grpc import Server, Service, connect

_ends: Final[asyncio.Queue[float]] = asyncio.Queue()


async def reply(text: str, count: int) -> str:  # noqa: ARG001
    return text


async def ended(text: str, count: int) -> str:  # noqa: ARG001
    return str(await _ends.get())


async def tokens(text: str, count: int) -> AsyncIterator[str]:
    for _ in range(count):
        yield text


def tokens_sync(text: str, count: int) -> Iterator[str]:
    for _ in range(count):
        yield text


async def breathing(text: str, count: int) -> AsyncIterator[str]:
    for _ in range(count):
        yield text
        await asyncio.sleep(0)


async def paced(text: str, count: int) -> AsyncIterator[str]:  # noqa: ARG001
    for _ in range(count):
        await asyncio.sleep(0.001)
        yield str(time.perf_counter())


async def watch(text: str, count: int) -> AsyncIterator[str]:  # noqa: ARG001
    try:
        yield text
        await asyncio.Event().wait()
    finally:
        _ends.put_nowait(time.perf_counter())


@asynccontextmanager
async def server(functions: str) -> AsyncIterator[Served]:
    async with Server(service_of(int(functions)), port=0, grace=0) as started:
        yield Served(started.address)


@asynccontextmanager
async def client(functions: str, address: str) -> AsyncIterator[Load]:
    async with connect(address, service_of(int(functions))) as connected:
        ask, wait = connected.bind(reply), connected.bind(ended)
        yield Load(
            Calls(
                reply=lambda: ask(TEXT, 1),
                stream=lambda name, count: connected.call(name, TEXT, count),
                ended=lambda: wait(TEXT, 1),
            )
        )


def service_of(functions: int) -> Service:
    """A service of the functions above, and of so many more that are never called."""
    service = Service("bench.v1.ChatService")
    for function in (reply, ended, tokens, tokens_sync, breathing, paced, watch):
        service.expose(function)
    for number in range(functions):
        service.expose(name=f"reply{number}")(reply)
    return service

"""The same service as ``bare.py``, of exposed functions and called by a typed client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.load import TEXT, Calls, Load
from bench.worker import Served
from ephaptic_grpc import Server, Service, connect


async def reply(text: str, count: int) -> str:  # noqa: ARG001
    return text


async def tokens(text: str, count: int) -> AsyncIterator[str]:
    for _ in range(count):
        yield text


async def watch(text: str, count: int) -> AsyncIterator[str]:  # noqa: ARG001
    yield text
    await asyncio.Event().wait()


@asynccontextmanager
async def server(functions: int) -> AsyncIterator[Served]:
    async with Server(_service(functions), port=0, grace=0) as started:
        yield Served(started.address)


@asynccontextmanager
async def client(functions: int, address: str) -> AsyncIterator[Load]:
    async with connect(address, _service(functions)) as connected:
        ask, list_tokens, start_watch = connected.bind(reply), connected.bind(tokens), connected.bind(watch)

        async def answer() -> str:
            return await ask(TEXT, 1)

        yield Load(
            Calls(
                reply=answer,
                tokens=lambda count: list_tokens(TEXT, count),
                watch=lambda: start_watch(TEXT, 1),
            )
        )


def _service(functions: int) -> Service:
    """A service of so many functions, of which the first three are called."""
    service = Service("bench.v1.ChatService")
    service.expose(reply)
    service.expose(tokens)
    service.expose(watch)
    for number in range(3, functions):
        service.expose(name=f"reply{number}")(reply)
    return service

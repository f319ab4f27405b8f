"""PyPI's ``ephaptic``: msgpack over a WebSocket."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ephaptic import Ephaptic
from ephaptic.client import connect

from bench.load import TEXT, Calls, Load
from bench.worker import Served


async def reply(text: str, count: int) -> str:  # noqa: ARG001
    return text


async def tokens(text: str, count: int) -> AsyncGenerator[str, None]:
    for _ in range(count):
        yield text


@asynccontextmanager
async def server(_: str) -> AsyncIterator[Served]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ephaptic = Ephaptic()
    ephaptic.expose(reply)
    ephaptic.expose(tokens)
    task = asyncio.create_task(ephaptic.listen(port=port))
    await asyncio.sleep(0.5)  # it doesn't say when it listens
    yield Served(f"ws://127.0.0.1:{port}/_ephaptic")
    task.cancel()


@asynccontextmanager
async def client(_: str, address: str) -> AsyncIterator[Load]:
    connected = await connect(address)

    async def stream(count: int) -> AsyncIterator[Any]:
        async for item in await connected.tokens(TEXT, count):
            yield item

    yield Load(Calls(reply=lambda: connected.reply(TEXT, 1), stream=lambda _, count: stream(count)))
    await connected.disconnect()

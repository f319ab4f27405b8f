"""An ASGI app, served by uvicorn in the loop of its worker."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from bench.worker import Served


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[Served]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="error", lifespan="off", access_log=False, timeout_keep_alive=300)
        server = uvicorn.Server(config)  # and no connection is closed while others are measured
        task = asyncio.create_task(server.serve([listening]))
        while not server.started:  # noqa: ASYNC110  it has no event for that
            await asyncio.sleep(0.01)
        yield Served(f"http://127.0.0.1:{listening.getsockname()[1]}")
        server.should_exit = True
        await task

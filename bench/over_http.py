"""The same service inside an ASGI app on uvicorn, called as plain JSON by httpx; ``node.py`` calls it as gRPC-Web."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from bench.load import TEXT, Calls, Load
from bench.ours import service_of
from bench.peers.asgi import serving
from bench.worker import Served
from ephaptic_grpc.asgi import web_app
from ephaptic_grpc.names import rpc_path


@asynccontextmanager
async def server(functions: str) -> AsyncIterator[Served]:
    async with serving(web_app(service_of(int(functions)))) as served:
        yield served


@asynccontextmanager
async def client(functions: str, address: str) -> AsyncIterator[Load]:
    name = service_of(int(functions)).name
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=httpx.Limits(keepalive_expiry=None)) as connected:

        async def ask() -> str:
            answer: str = (await connected.post(rpc_path(name, "reply"), json={"text": TEXT, "count": 1})).json()
            return answer

        async def stream(function: str, count: int) -> AsyncIterator[Any]:
            path = rpc_path(name, function)
            async with connected.stream("POST", path, json={"text": TEXT, "count": count}) as response:
                async for line in response.aiter_lines():
                    yield json.loads(line)

        yield Load(Calls(reply=ask, stream=stream))

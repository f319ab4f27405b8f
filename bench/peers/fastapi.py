"""FastAPI on uvicorn: JSON for a value and JSON Lines for a stream, called by httpx."""

import json
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI
from pydantic import BaseModel

from bench.load import TEXT, Calls, Load
from bench.peers.asgi import serving
from bench.worker import Served


class Question(BaseModel):
    text: str
    count: int


app = FastAPI()


@app.post("/reply")
async def reply(question: Question) -> str:
    return question.text


@app.post("/tokens")
async def tokens(question: Question) -> AsyncIterable[str]:
    for _ in range(question.count):
        yield question.text


@asynccontextmanager
async def server(_: str) -> AsyncIterator[Served]:
    async with serving(app) as served:
        yield served


@asynccontextmanager
async def client(_: str, address: str) -> AsyncIterator[Load]:
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=httpx.Limits(keepalive_expiry=None)) as connected:

        async def ask() -> str:
            answer: str = (await connected.post("/reply", json={"text": TEXT, "count": 1})).json()
            return answer

        async def stream(_: str, count: int) -> AsyncIterator[Any]:
            async with connected.stream("POST", "/tokens", json={"text": TEXT, "count": count}) as response:
                async for line in response.aiter_lines():
                    yield json.loads(line)

        yield Load(Calls(reply=ask, stream=stream))

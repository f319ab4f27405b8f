"""``pydantic-rpc``: Pydantic models over grpc.aio, called by the stubs that it generates."""

import asyncio
import importlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_tools import protoc
from pydantic_rpc import AsyncIOServer, Message

from bench.load import TEXT, Calls, Load
from bench.worker import Served


class Question(Message):  # type: ignore[misc]
    text: str
    count: int


class Answer(Message):  # type: ignore[misc]
    text: str


class Chat:
    async def reply(self, request: Question) -> Answer:
        return Answer(text=request.text)

    async def tokens(self, request: Question) -> AsyncIterator[Answer]:
        for _ in range(request.count):
            yield Answer(text=request.text)


@asynccontextmanager
async def server(_: str) -> AsyncIterator[Served]:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYDANTIC_RPC_PROTO_PATH"] = folder
        chat = AsyncIOServer()
        chat.mount(Chat())
        port = chat._server.add_insecure_port("127.0.0.1:0")
        await chat._server.start()
        yield Served(f"{folder} 127.0.0.1:{port}")
        await chat._server.stop(0)


@asynccontextmanager
async def client(_: str, address: str) -> AsyncIterator[Load]:
    folder, target = address.split()
    with tempfile.TemporaryDirectory() as stubs:
        await asyncio.to_thread(_compile, folder, stubs)
        sys.path.insert(0, stubs)
        messages, services = importlib.import_module("chat_pb2"), importlib.import_module("chat_pb2_grpc")
        async with grpc.aio.insecure_channel(target) as channel:
            stub = services.ChatStub(channel)

            async def reply() -> str:
                answer: str = (await stub.Reply(messages.Question(text=TEXT, count=1))).text
                return answer

            def stream(_: str, count: int) -> Any:
                return stub.Tokens(messages.Question(text=TEXT, count=count))

            yield Load(Calls(reply=reply, stream=stream))


def _compile(folder: str, stubs: str) -> None:
    [proto] = Path(folder).glob("*.proto")
    protoc.main(["protoc", f"-I{folder}", f"--python_out={stubs}", f"--grpc_python_out={stubs}", proto.name])

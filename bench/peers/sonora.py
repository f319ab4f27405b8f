"""``sonora``: gRPC-Web on uvicorn, with the messages of ``bare.proto``.

Its channels and servers are older than what stubs ask of them now, so that the methods are named here.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

import grpc
import sonora.aio
import sonora.asgi

from bench.load import TEXT, Calls, Load
from bench.peers.asgi import serving
from bench.worker import Served


@asynccontextmanager
async def server(stubs: str) -> AsyncIterator[Served]:
    sys.path.insert(0, stubs)
    messages = import_module("bare_pb2")

    async def reply(request: Any, context: Any) -> Any:  # noqa: ARG001
        return messages.Answer(text=request.text)

    async def tokens(request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG001
        for _ in range(request.count):
            yield messages.Answer(text=request.text)

    parse, write = messages.Question.FromString, messages.Answer.SerializeToString
    handlers = {
        "Reply": grpc.unary_unary_rpc_method_handler(reply, parse, write),
        "Tokens": grpc.unary_stream_rpc_method_handler(tokens, parse, write),
    }
    app = sonora.asgi.grpcASGI()
    app.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare.Chat", handlers),))
    async with serving(app) as served:
        yield served


@asynccontextmanager
async def client(stubs: str, address: str) -> AsyncIterator[Load]:
    sys.path.insert(0, stubs)
    messages = import_module("bare_pb2")
    write, parse = messages.Question.SerializeToString, messages.Answer.FromString
    async with sonora.aio.insecure_web_channel(address) as channel:
        ask = channel.unary_unary("/bare.Chat/Reply", write, parse)
        list_tokens = channel.unary_stream("/bare.Chat/Tokens", write, parse)

        async def reply() -> str:
            answer: str = (await ask(messages.Question(text=TEXT, count=1))).text
            return answer

        yield Load(Calls(reply=reply, stream=lambda _, count: list_tokens(messages.Question(text=TEXT, count=count))))

"""``connectrpc`` on uvicorn, with the messages of ``bare.proto`` and what its plugin would generate."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from connectrpc.client import ConnectClient
from connectrpc.compat import google_protobuf_binary_codec, google_protobuf_codecs
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.server import ConnectASGIApplication, Endpoint

from bench.load import TEXT, Calls, Load
from bench.peers.asgi import serving
from bench.worker import Served


class Application(ConnectASGIApplication[Any]):  # type: ignore[misc]
    path = "/bare.Chat"


def methods(messages: Any) -> tuple[Any, Any]:
    def method(name: str, kind: StreamType) -> Any:
        return MethodInfo(
            name=name,
            service_name="bare.Chat",
            input=messages.Question,
            output=messages.Answer,
            idempotency_level=IdempotencyLevel.UNKNOWN,
            stream_type=kind,
        )

    return method("Reply", StreamType.UNARY), method("Tokens", StreamType.SERVER_STREAM)


@asynccontextmanager
async def server(stubs: str) -> AsyncIterator[Served]:
    sys.path.insert(0, stubs)
    messages = import_module("bare_pb2")
    reply_method, tokens_method = methods(messages)

    async def reply(request: Any, context: Any) -> Any:  # noqa: ARG001
        return messages.Answer(text=request.text)

    async def tokens(request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG001
        for _ in range(request.count):
            yield messages.Answer(text=request.text)

    endpoints = {
        "/bare.Chat/Reply": Endpoint.unary(reply_method, reply),
        "/bare.Chat/Tokens": Endpoint.server_stream(tokens_method, tokens),
    }
    app = Application(service=None, endpoints=lambda _: endpoints, codecs=google_protobuf_codecs(), compressions=())
    async with serving(app) as served:
        yield served


@asynccontextmanager
async def client(stubs: str, address: str) -> AsyncIterator[Load]:
    sys.path.insert(0, stubs)
    messages = import_module("bare_pb2")
    reply_method, tokens_method = methods(messages)
    codec = google_protobuf_binary_codec()
    async with ConnectClient(address, codec=codec, accept_compression=(), send_compression=None) as connected:

        async def reply() -> str:
            request = messages.Question(text=TEXT, count=1)
            answer: str = (await connected.execute_unary(request=request, method=reply_method)).text
            return answer

        def stream(_: str, count: int) -> Any:
            request = messages.Question(text=TEXT, count=count)
            return connected.execute_server_stream(request=request, method=tokens_method)

        yield Load(Calls(reply=reply, stream=stream))

"""Clients that call any of the servers over HTTP, so that these can be compared by one and the same.

httpx is what most would take in Python. The other one costs next to nothing: what is left of a call's time is the
server's, where httpx, and Node's fetch, need more CPU for a call than any of the servers does.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import httpx

from bench.bare import import_stubs
from bench.load import TEXT, Calls, Load
from bench.ours import service_of
from ephaptic_grpc.grpc_web import frame
from ephaptic_grpc.names import rpc_path
from ephaptic_grpc.payload import pack

_ARGUMENTS: Final = {"text": TEXT, "count": 1}
_LAST_CHUNK: Final = b"0\r\n\r\n"


class Request(NamedTuple):
    """A unary call."""

    path: str
    content_type: str
    body: bytes


def request_of(library: str, stubs: str) -> Request:
    """How a library's server is called: in JSON by ``over_http`` and FastAPI, else in protobuf."""
    arguments = json.dumps(_ARGUMENTS).encode()
    path = {"fastapi": "/reply", "connectrpc": "/bare.Chat/Reply", "sonora": "/bare.Chat/Reply"}.get(library)
    if path is None:
        path = rpc_path(service_of(0).name, "reply")
    if library in ("over_http", "fastapi"):
        return Request(path, "application/json", arguments)
    if library == "node":
        return Request(path, "application/grpc-web+proto", frame(pack(arguments)))
    question = import_stubs(stubs)[0].Question(**_ARGUMENTS).SerializeToString()
    if library == "connectrpc":
        return Request(path, "application/proto", question)
    return Request(path, "application/grpc-web+proto", frame(question))


@asynccontextmanager
async def with_httpx(library: str, stubs: str, address: str) -> AsyncIterator[Load]:
    """JSON by httpx."""
    path = request_of(library, stubs).path
    limits = httpx.Limits(keepalive_expiry=None)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as connected:

        async def reply() -> str:
            answer = await connected.post(path, json=_ARGUMENTS)
            answer.raise_for_status()
            return str(answer.json())

        yield Load(Calls(reply=reply, stream=_no_stream))


@asynccontextmanager
async def with_sockets(library: str, stubs: str, address: str) -> AsyncIterator[Load]:
    """The same bytes again and again; of an answer, only its end is looked for, and ``TEXT`` in it."""
    url = urlsplit(address)
    path, content_type, body = request_of(library, stubs)
    head = f"POST {path} HTTP/1.1\r\nhost: {url.netloc}\r\ncontent-type: {content_type}\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    loop = asyncio.get_running_loop()
    idle: list[_Connection] = []

    async def reply() -> str:
        if not idle:
            _, made = await loop.create_connection(_Connection, str(url.hostname), int(url.port or 80))
            idle.append(made)
        connection = idle.pop()
        answer = await connection.call(request)
        idle.append(connection)
        if not answer.startswith(b"HTTP/1.1 200 ") or TEXT.encode() not in answer:
            raise RuntimeError(f"a call failed: {answer!r}")
        return TEXT

    yield Load(Calls(reply=reply, stream=_no_stream))
    for connection in idle:
        connection.close()


def _no_stream(function: str, count: int) -> Any:  # noqa: ARG001  every client is called so
    raise RuntimeError(f"{function}: this client only measures unary calls")


class _Connection(asyncio.Protocol):
    """One connection, which has one call at a time."""

    _transport: Any
    _answer: asyncio.Future[bytes] | None = None
    _data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._answer is not None and _is_whole(self._data):
            self._answer.set_result(self._data)
            self._answer = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None:
            self._answer.set_exception(exc or ConnectionResetError("the server has closed the connection"))

    def call(self, request: bytes) -> asyncio.Future[bytes]:
        self._data = b""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        self._transport.close()


def _is_whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    _, named, size = head.lower().partition(b"content-length: ")
    return len(body) >= int(size.partition(b"\r\n")[0]) if named else answer.endswith(_LAST_CHUNK)

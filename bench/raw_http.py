"""An HTTP/1.1 client that costs next to nothing: what is left of a call's time is the server's.

Each library's own client, httpx and Node's fetch need more CPU for a call than any of the servers does.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from bench.load import TEXT, Calls, Load

_END: Final = b"0\r\n\r\n"


class Connection(asyncio.Protocol):
    """One connection, with one call at a time."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._answer: asyncio.Future[bytes] | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._answer is not None and _is_whole(self._data):
            self._answer.set_result(self._data)
            self._answer = None

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None:
            self._answer.set_exception(error or ConnectionResetError("the server has closed the connection"))

    def call(self, request: bytes) -> asyncio.Future[bytes]:
        """What is answered, head and body."""
        self._data = b""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        self._transport.close()


def _is_whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    _, named, size = head.lower().partition(b"content-length: ")
    return len(body) >= int(size.partition(b"\r\n")[0]) if named else answer.endswith(_END)


@asynccontextmanager
async def calling(address: str, path: str, content_type: str, body: bytes) -> AsyncIterator[Load]:
    """A load that always sends the same request; the answer must have ``TEXT`` in it."""
    url = urlsplit(address)
    head = f"POST {path} HTTP/1.1\r\nhost: {url.netloc}\r\ncontent-type: {content_type}\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    idle: list[Connection] = []
    every: list[Connection] = []

    async def reply() -> str:
        if idle:
            connection = idle.pop()
        else:
            made = asyncio.get_running_loop().create_connection(Connection, url.hostname, url.port)
            _, connection = await made
            every.append(connection)
        answer = await connection.call(request)
        idle.append(connection)
        if not answer.startswith(b"HTTP/1.1 200 ") or TEXT.encode() not in answer:
            raise RuntimeError(f"a call failed: {answer!r}")
        return TEXT

    yield Load(Calls(reply=reply, stream=None))
    for connection in every:
        connection.close()

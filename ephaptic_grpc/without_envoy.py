"""What serves browsers where no Envoy does: uvicorn, in the process and on the loop of the gRPC server.

It needs the extra ``asgi``.
"""

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import unquote

import uvicorn
from starlette.responses import FileResponse, PlainTextResponse

from ephaptic_grpc.addresses import host_port
from ephaptic_grpc.asgi import web_app
from ephaptic_grpc.codegen.envoy import StaticFile
from ephaptic_grpc.exchange import Receive, Scope, Send
from ephaptic_grpc.service import Service
from ephaptic_grpc.tls import TLS


class _Uvicorn(uvicorn.Server):
    """One that leaves signals to the process, and says when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.takes_calls: Final = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.takes_calls.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class WebServer:
    """Serves services, and the files of a page beside them, over HTTP/1.1: ``async with WebServer(...)``.

    Args:
        services: as of ``web_app``.
        host: the address to listen on.
        port: 0 takes a free one.
        origins: as of ``web_app``.
        hosts: the names that it answers to, as of ``Gateway``.
        headers: as of ``web_app``.
        files: what is served beside the services, by its URL path.
        tls: as of ``Server``. The files are read when it starts, and not again.

    Raises:
        ValueError: an origin or a header that is none.
    """

    def __init__(
        self,
        services: Sequence[Service],
        host: str,
        port: int,
        *,
        origins: Sequence[str] = (),
        hosts: Sequence[str] = (),
        headers: Sequence[str] = (),
        files: Mapping[str, StaticFile] | None = None,
        tls: TLS | None = None,
    ) -> None:
        self._rpc: Final = web_app(*services, origins=origins, headers=headers)
        self._hosts: Final = frozenset(hosts)
        self._files: Final = {unquote(path): file for path, file in (files or {}).items()}
        self._host: Final = host
        self._port = port
        self._server: Final = _Uvicorn(
            uvicorn.Config(
                self._app,
                interface="asgi3",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=1,  # seconds; calls have been drained before
                **({} if tls is None else _tls_options(tls)),
            )
        )
        self._serving: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """Where it listens: ``127.0.0.1:8080``."""
        return host_port(self._host, self._port)

    async def drain(self, grace: float) -> None:
        """Take no new calls, let those in flight finish for ``grace`` seconds, and cancel the others."""
        await self._rpc.stop(grace)

    async def __aenter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.create_server((self._host, self._port), family=family, backlog=2048)
        self._port = listener.getsockname()[1]
        self._serving = asyncio.ensure_future(self._server.serve(sockets=[listener]))
        starting = asyncio.ensure_future(self._server.takes_calls.wait())
        await asyncio.wait((starting, self._serving), return_when=asyncio.FIRST_COMPLETED)
        starting.cancel()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._hosts and _named(scope) not in self._hosts:
            await PlainTextResponse("this name is not served: see --origin", 421)(scope, receive, send)
            return
        if not self._files or scope["method"] not in ("GET", "HEAD"):
            await self._rpc(scope, receive, send)
            return
        file = self._files.get(scope["path"])
        if file is None:
            await PlainTextResponse("there is no such file", 404)(scope, receive, send)
        else:
            await FileResponse(file.path, headers={"content-type": file.content_type})(scope, receive, send)


def _tls_options(tls: TLS) -> dict[str, Any]:
    options = {"ssl_certfile": os.fspath(tls.certificate), "ssl_keyfile": os.fspath(tls.key)}
    if tls.client_ca is None:
        return options
    return {**options, "ssl_ca_certs": os.fspath(tls.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}


def _named(scope: Scope) -> str:
    """The header ``Host`` in small letters, without its port."""
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    return re.sub(r":\d*$", "", host).lower()

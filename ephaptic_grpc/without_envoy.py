"""What serves browsers where no Envoy does: uvicorn, in the process and on the loop of the gRPC server.

It needs the extra ``asgi``.
"""

import asyncio
import os
import re
import socket
import ssl
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import unquote

import uvicorn
from starlette.responses import FileResponse, PlainTextResponse, Response

from ephaptic_grpc.addresses import host_port
from ephaptic_grpc.asgi import web_app
from ephaptic_grpc.codegen.envoy import StaticFile
from ephaptic_grpc.exchange import Receive, Scope, Send
from ephaptic_grpc.service import Service
from ephaptic_grpc.tls import TLS
from ephaptic_grpc.web import static_files

_REST: Final = 9
_REST_SECONDS: Final = 1.0
"""How long the folder of a page is left alone before it is read again: so many times what reading it took, so many
seconds at most."""


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
        static: a folder whose files are served beside the services.
        tls: as of ``Server``. The files are read when it starts, and not again.

    Raises:
        OSError: the folder can't be read.
        ValueError: an origin or a header that is none, or there is nothing in the folder.
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
        static: Path | None = None,
        tls: TLS | None = None,
    ) -> None:
        self._rpc: Final = web_app(*services, origins=origins, headers=headers)
        self._hosts: Final = frozenset(hosts)
        self._page: Final = None if static is None else _Page(static)
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
        if self._page is None or scope["method"] not in ("GET", "HEAD"):
            await self._rpc(scope, receive, send)
        else:
            await (await self._page.response(scope["path"]))(scope, receive, send)


class _Page:
    """The files of a folder, as they are now.

    Args:
        folder: where they are.

    Raises:
        OSError: it can't be read.
        ValueError: there is nothing in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder: Final = folder
        self._files = _by_path(folder)
        self._read_at = self._rests_until = 0.0
        self._reading: Final = asyncio.Lock()

    async def response(self, path: str) -> Response:
        """The file that has a path."""
        found = await self._found(path)
        if found is None:  # it may have come since
            await self._read_again()
            found = await self._found(path)
        return found or PlainTextResponse("there is no such file", 404)

    async def _found(self, path: str) -> FileResponse | None:
        file = self._files.get(path)
        if file is None:
            return None
        with suppress(OSError):  # it has been removed
            there = await asyncio.to_thread(os.stat, file.path)
            if stat.S_ISREG(there.st_mode):
                return FileResponse(file.path, headers={"content-type": file.content_type}, stat_result=there)
        return None

    async def _read_again(self) -> None:
        """Read the folder, once for all who miss a file until then. Not at once where it has just been read: anybody
        can ask for what isn't there.
        """
        loop = asyncio.get_running_loop()
        missed_at = loop.time()
        async with self._reading:
            if self._read_at > missed_at:
                return
            await asyncio.sleep(self._rests_until - loop.time())
            began = loop.time()
            with suppress(OSError, ValueError):  # of one that is being built again
                self._files = await asyncio.to_thread(_by_path, self._folder)
            ended = loop.time()
            self._read_at, self._rests_until = began, ended + min((ended - began) * _REST, _REST_SECONDS)


def _by_path(folder: Path) -> dict[str, StaticFile]:
    return {unquote(path): file for path, file in static_files(folder).items()}


def _tls_options(tls: TLS) -> dict[str, Any]:
    options = {"ssl_certfile": os.fspath(tls.certificate), "ssl_keyfile": os.fspath(tls.key)}
    if tls.client_ca is None:
        return options
    return {**options, "ssl_ca_certs": os.fspath(tls.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}


def _named(scope: Scope) -> str:
    """The header ``Host`` in small letters, without its port."""
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    return re.sub(r":\d*$", "", host).lower()

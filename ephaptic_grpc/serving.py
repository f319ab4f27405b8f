"""A process that serves: its event loop, what it says, what serves browsers beside it, and how it leaves."""

import asyncio
import importlib
import importlib.util
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import grpc

from ephaptic_grpc.addresses import check_address, host_port, is_loopback
from ephaptic_grpc.codegen.envoy import Gateway
from ephaptic_grpc.server import Server
from ephaptic_grpc.service import Service
from ephaptic_grpc.tls import TLS
from ephaptic_grpc.web import Envoy, NoEnvoyError, envoy_path, running_envoy, static_files

if TYPE_CHECKING:
    from ephaptic_grpc.without_envoy import WebServer

_LEAVING_SECONDS: Final = 0.1
"""What tasks besides the calls have to end when they are cancelled: after the calls' clean-up, within its second."""


class Loop(StrEnum):
    """An event loop."""

    auto = "auto"
    asyncio = "asyncio"
    uvloop = "uvloop"


class NoLoopError(RuntimeError):
    """The event loop that was asked for isn't installed."""


@dataclass(frozen=True, slots=True)
class Web:
    """What browsers get.

    Attributes:
        port: where Envoy listens, on the server's host; 0 takes a free one.
        static: a folder whose files are served beside the functions.
        origins: as of ``Gateway``.
        headers: as of ``Gateway``.
        without_envoy: whether this process answers them itself, as it does where there is no Envoy.
    """

    port: int
    static: Path | None = None
    origins: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    without_envoy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How a process serves.

    Attributes:
        host: as of ``Server``.
        port: as of ``Server``.
        grace: as of ``Server``.
        loop: the event loop; ``auto`` is uvloop where it is installed.
        reflection: as of ``Server``.
        tls: as of ``Server``; browsers get the same.
        web: what browsers get; None means nothing.
    """

    host: str
    port: int
    grace: float
    loop: Loop
    reflection: bool
    tls: TLS | None
    web: Web | None


def serve_process(services: Sequence[Service], serving: Serving) -> None:
    """Serve until a signal comes.

    Raises:
        OSError: an address can't be listened on, or the folder of static files can't be read.
        ValueError: an origin or a header that is none, a file of ``tls`` that can't be used, or there is nothing in the
            folder.
        NoEnvoyError, NoLoopError: what was asked for isn't installed.
    """
    web = serving.web
    own: WebServer | None = None
    if web is not None:
        check_address(serving.host, web.port)
        if web.static is not None:
            static_files(web.static)  # what is wrong with them is said before anything is served
        own = _in_place_of_envoy(services, serving, web)
    server = _Server(own, services, serving)
    with asyncio.Runner(loop_factory=_loop_factory(serving.loop)) as runner:
        runner.run(_run(server, serving, own))


class _Server(Server):
    """A server that drains together with what serves browsers in the same process, where there is that.

    Attributes:
        socket: a Unix socket where it listens, too, without TLS: Envoy's way in where others need TLS. Envoy has no
            certificate that the server would take, and its own callers have shown theirs to Envoy.
    """

    def __init__(self, web: "WebServer | None", services: Sequence[Service], serving: Serving) -> None:
        super().__init__(
            *services,
            host=serving.host,
            port=serving.port,
            grace=serving.grace,
            tls=serving.tls,
            reflection=serving.reflection,
        )
        self.socket: Path | None = None
        self._web = web

    def _bind(self, server: grpc.aio.Server, credentials: grpc.ServerCredentials | None) -> None:
        super()._bind(server, credentials)
        if self.socket is not None:
            server.add_insecure_port(f"unix:{self.socket}")

    async def stop(self, grace: float | None = None) -> None:
        if self._web is None:
            await super().stop(grace)
        else:
            drained = self._web.drain(self._grace if grace is None else grace)
            await asyncio.gather(super().stop(grace), drained)


def _in_place_of_envoy(services: Sequence[Service], serving: Serving, web: Web) -> "WebServer | None":
    """What serves browsers where no Envoy shall, or can, which is said; None where an Envoy does.

    Raises:
        NoEnvoyError: there is neither an Envoy nor what takes its place.
    """
    missing = None
    if not web.without_envoy:
        try:
            envoy_path()
            return None
        except NoEnvoyError as error:
            missing = error
    try:
        from ephaptic_grpc.without_envoy import WebServer  # here, since it needs an extra
    except ImportError:
        raise missing or NoEnvoyError(
            "--without-envoy needs Starlette and uvicorn: pip install 'ephaptic-grpc[asgi]'"
        ) from None
    if missing:
        _say("There is no Envoy here (it comes with the extra 'web', where it has a wheel): uvicorn serves browsers.")
    return WebServer(
        services,
        serving.host,
        web.port,
        origins=web.origins,
        hosts=_hosts(serving.host, web.origins),
        headers=web.headers,
        static=web.static,
        tls=serving.tls,
    )


async def _run(server: _Server, serving: Serving, own: "WebServer | None") -> None:
    web, scheme = serving.web, "http" if serving.tls is None else "https"
    async with AsyncExitStack() as stack:
        if serving.tls is not None and web is not None and own is None:
            server.socket = Path(stack.enter_context(TemporaryDirectory(prefix="ephaptic-grpc-"))) / "grpc"
        await stack.enter_async_context(server)
        loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
        for service in server.services:
            _say(f"Serving {service.name}: {', '.join(service.procedures) or 'no functions'}")
        waiting = asyncio.ensure_future(server.wait())
        await asyncio.sleep(0)  # from here on it hears signals
        if web is None:
            _say(f"on {server.address} ({loop}). Ctrl-C stops.")
            await waiting
        elif own is not None:
            async with own:
                _say(f"on {server.address} ({loop}), for browsers on {scheme}://{own.address}. Ctrl-C stops.")
                await waiting
        else:
            async with running_envoy(server.services, _gateway(server, web, serving.tls)) as envoy:
                _say(f"on {server.address} ({loop}), for browsers on {scheme}://{envoy.address}. Ctrl-C stops.")
                await _wait_for_both(server, waiting, envoy)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left and (await asyncio.wait(left, timeout=_LEAVING_SECONDS))[1]:
        # What ignores its cancellation has been logged; asyncio would wait for it for ever.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)


def _gateway(server: _Server, web: Web, tls: TLS | None) -> Gateway:
    return Gateway(
        upstreams=(server.address if server.socket is None else str(server.socket),),
        listen=host_port(server.host, web.port),
        origins=web.origins,
        hosts=_hosts(server.host, web.origins),
        headers=web.headers,
        tls=tls,
        files={} if web.static is None else static_files(web.static),
    )


def _hosts(host: str, origins: Sequence[str]) -> tuple[str, ...]:
    """The names that lead to a loopback address, and those of sites that may call; all names for any other address."""
    if not is_loopback(host):
        return ()
    named = [urlsplit(origin).netloc for origin in origins]
    return tuple(dict.fromkeys(["localhost", "127.0.0.1", "[::1]", *(re.sub(r":\d+$", "", name) for name in named)]))


async def _wait_for_both(server: Server, waiting: asyncio.Future[None], envoy: Envoy) -> None:
    """Wait until a signal has stopped the server; or until Envoy ends, which stops the server."""
    ended = asyncio.ensure_future(envoy.ended())
    await asyncio.wait((waiting, ended), return_when=asyncio.FIRST_COMPLETED)
    if waiting.done():
        ended.cancel()
        return await waiting
    await server.stop()
    await waiting
    raise NoEnvoyError(f"Envoy ended by itself, with exit code {ended.result()}")


def _loop_factory(loop: Loop) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if loop is Loop.asyncio or (loop is Loop.auto and importlib.util.find_spec("uvloop") is None):
        return None
    try:
        return importlib.import_module("uvloop").new_event_loop  # type: ignore[no-any-return]
    except ImportError:
        raise NoLoopError(
            "uvloop is not installed: it has no wheel for this platform, or was left out. Use --loop asyncio"
        ) from None


def _say(text: str) -> None:
    with suppress(OSError):  # who serves goes on where nobody can be told
        print(text, file=sys.stderr, flush=True)

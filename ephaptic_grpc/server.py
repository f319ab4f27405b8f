"""The grpc.aio edge: addresses, health, and the life of a server. How a function is called is invoke's business."""

from __future__ import annotations  # grpc's classes are generic for type checkers only

import asyncio
import errno
import logging
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Final, Never, Self

import grpc

from ephaptic_grpc.addresses import check_address, host_port, is_loopback
from ephaptic_grpc.connections import server_options, use_asyncio
from ephaptic_grpc.edge import Calls, procedures_of, served
from ephaptic_grpc.handlers import IdentifiedRpc, Paths, Rpc, method_handler
from ephaptic_grpc.health import Health
from ephaptic_grpc.limits import ENVELOPE_BYTES, PENDING_CALLS, STREAMS_PER_CONNECTION, Limits, check_limits
from ephaptic_grpc.listener import Listener
from ephaptic_grpc.reflection import Reflection
from ephaptic_grpc.service import Service
from ephaptic_grpc.signals import on_signals
from ephaptic_grpc.threads import Threads
from ephaptic_grpc.tls import TLS, server_credentials

logger = logging.getLogger("ephaptic_grpc")
grpc_logger = logging.getLogger("grpc._cython.cygrpc")

_READING_SECONDS: Final = 0.25
"""How long callers have to read the end of their calls, at least."""

_SPARE_SECONDS: Final = 5.0
"""By how much gRPC's own drain outlasts ours, which is to end it."""


class Server:
    """Serves services over gRPC: ``async with Server(chat) as server: await server.wait()``.

    Args:
        services: what to serve; none means the default service, that of ``ephaptic_grpc.expose``.
        host: the address to listen on. Loopback unless told otherwise.
        port: 0 takes a free one; ``server.port`` says which.
        grace: seconds that calls in flight have to finish when the server stops.
        tls: the files of the server's certificate; without it the port is plaintext.
        credentials: grpc's own, in place of ``tls``, for what that can't say.
        limits: what the server allows.
        reflection: whether the standard reflection service tells the contracts of the services to whoever asks.

    Raises:
        TypeError, ValueError: what is no service, or two of one name; both ``tls`` and ``credentials``; or what is no
            port, no grace or no limits.
        ExposeError: an annotation of an exposed function names something that is not defined.
    """

    def __init__(
        self,
        *services: Service,
        host: str = "127.0.0.1",
        port: int = 50051,
        grace: float = 5.0,
        tls: TLS | None = None,
        credentials: grpc.ServerCredentials | None = None,
        limits: Limits = Limits(),  # noqa: B008  it is frozen
        reflection: bool = False,
    ) -> None:
        self.services: Final = served(services)
        if not isinstance(port, int):
            raise TypeError(f"a port is a number, not {port!r}")
        if not 0 <= port <= 65535:
            raise ValueError(f"a port is 0 to 65535, not {port}")
        if not isinstance(grace, int | float):
            raise TypeError(f"grace is a number of seconds, not {grace!r}")
        if not 0 <= grace < inf:
            raise ValueError(f"grace is a number of seconds, 0 or more, not {grace!r}")
        check_limits(limits)
        if not isinstance(tls, TLS | None):
            raise TypeError(f"tls is a TLS, such as TLS('cert.pem', 'key.pem'), not {tls!r}")
        if tls is not None and credentials is not None:
            raise TypeError("tls= and credentials= say the same in two ways: give one of them")
        self.host: Final = host
        self.port = port
        self._grace = grace
        self._tls = tls
        self._credentials = credentials
        self._limits = limits
        self._threads = Threads(limits.threads)
        self._calls: Calls[Rpc] = Calls(limits.calls)
        rpc = IdentifiedRpc if credentials or (tls and tls.client_ca) else Rpc
        procedures = procedures_of(self.services)
        handlers = {one.path: method_handler(one, self._threads, self._calls, limits, rpc) for one in procedures}
        self._paths = Paths(handlers)
        # gRPC has one bound for all; handlers have those of their functions.
        sizes = (limits.of(procedure.limits).request_bytes for procedure in procedures)
        self._request_bytes: Final = max(sizes, default=limits.request_bytes)
        self._listener: Listener | None = None
        self._started = False
        self._health = Health()
        self._reflection = Reflection(self.services) if reflection else None

    @property
    def address(self) -> str:
        """Where clients connect to: ``127.0.0.1:50051``."""
        return host_port(self.host, self.port)

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address can't be listened on, or a file of ``tls`` can't be read; its ``errno`` says why.
            ValueError: a file of ``tls`` can't be used.
            RuntimeError: it has been started before; or this process was forked from one that used gRPC.
        """
        if self._started:
            raise RuntimeError("a server starts once: make another one")
        use_asyncio()
        credentials = self._credentials if self._tls is None else server_credentials(self._tls)
        for service in self.services:
            self._health.serve(service.name)
        # Made here, not in the constructor: grpc binds a server to the loop that is running.
        self._listener, self._started = Listener(lambda: self._made(credentials)), True
        try:
            await self._listener.start()
        except BaseException:  # it can be tried again
            self._listener, self._started = None, False
            raise
        if self._listener is None:
            return  # it was stopped meanwhile
        grpc_logger.addFilter(self._paths)
        if credentials is None and not is_loopback(self.host):
            logger.warning(
                "%s is open to other machines, without TLS: give the server tls= (--tls-cert, --tls-key)", self.address
            )

    def _made(self, credentials: grpc.ServerCredentials | None) -> grpc.aio.Server:
        """What listens, once it is started; ``self.port`` is its port."""
        check_address(self.host, self.port)
        server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),  # else two servers share a port without a word
                ("grpc.max_receive_message_length", self._request_bytes + ENVELOPE_BYTES),
                ("grpc.server.max_pending_requests", PENDING_CALLS),
                ("grpc.server.max_pending_requests_hard_limit", PENDING_CALLS),
                ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION),
                *server_options(),
            ]
        )
        server.add_generic_rpc_handlers((self._paths, self._health.handler()))
        if self._reflection is not None:
            server.add_generic_rpc_handlers(tuple(self._reflection.handlers()))
        try:
            self._bind(server, credentials)
        except RuntimeError:  # another program was quicker than this one after its check
            raise OSError(errno.EADDRINUSE, f"can't listen on {self.address}: gRPC can't take this port") from None
        return server

    def _bind(self, server: grpc.aio.Server, credentials: grpc.ServerCredentials | None) -> None:
        if credentials is None:
            self.port = server.add_insecure_port(self.address)
        else:
            self.port = server.add_secure_port(self.address, credentials)

    async def stop(self, grace: float | None = None) -> None:
        """Drain: say NOT_SERVING, take no new calls, let those in flight finish for ``grace`` seconds (the
        server's own grace where it is None), cancel the others, and wait for their clean-up.

        Called again while it runs, it shortens the grace: ``stop(0)`` cancels what is in flight.
        """
        if self._listener is None:
            return
        listener, grace = self._listener, self._grace if grace is None else grace
        if self._calls.count and grace:
            logger.info("stopping: calls in flight (%d) have %g seconds to finish", self._calls.count, grace)
        self._health.drain()
        loop, cleanup = asyncio.get_running_loop(), self._limits.cleanup
        until = loop.time() + grace + cleanup
        stopping = asyncio.ensure_future(listener.stop(grace + cleanup + _SPARE_SECONDS))
        await asyncio.gather(self._health.dismiss(stopping), self._calls.drain(grace, cleanup))
        # Of those that were told, some may still have to read all that was sent before.
        await asyncio.gather(stopping, listener.stop(max(until - loop.time(), _READING_SECONDS)))
        if self._listener is None:
            return  # another call of this was first
        self._listener = None
        self._calls.log_left_behind()
        self._threads.close()
        grpc_logger.removeFilter(self._paths)

    async def wait(self) -> None:
        """Serve until SIGINT or SIGTERM comes, or ``stop`` is called; then drain. A second signal ends the grace.

        Outside of the main thread no signal is listened to.
        """
        if self._listener is None:
            raise RuntimeError("the server has not been started: use 'async with' or 'await server.start()'")
        loop = asyncio.get_running_loop()
        signalled = asyncio.Event()
        drains: set[asyncio.Task[None]] = set()

        def on_signal() -> None:
            drains.add(loop.create_task(self.stop(0 if signalled.is_set() else None)))
            signalled.set()

        with on_signals(on_signal):
            # Shielded: cancelled in there, grpc.aio could never be stopped again.
            await asyncio.shield(asyncio.ensure_future(self._listener.wait_for_termination()))
            if drains:
                await asyncio.gather(*drains)

    if not TYPE_CHECKING:

        def __enter__(self) -> Never:
            raise TypeError("write 'async with Server(...)'")

        def __exit__(self, *_: object) -> None: ...  # Python looks for both first

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

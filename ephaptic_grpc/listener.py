"""A grpc.aio server that takes calls again after a caller has broken it.

grpc.aio decodes the path of each call in the one task that accepts calls, and a path that isn't UTF-8 ends that task:
the server stops listening, for everybody (seen in grpcio 1.85; in 1.62 the call alone fails). Calls in flight go on.
"""

import asyncio
import logging
from collections.abc import Callable, Generator
from contextlib import suppress
from types import coroutine
from typing import Any, Final

import grpc

logger = logging.getLogger("ephaptic_grpc")

_TRYING_SECONDS: Final = 5.0
"""How long a server that a caller has broken tries to get its port back. gRPC lets go of it within milliseconds."""

_POLLING_SECONDS: Final = 0.005
_UNTIL_IT_ENDS: Final = 1e9
"""A grace, in seconds, that is longer than any call."""


class Listener:
    """Listens by one grpc.aio server, and by a new one where that breaks.

    Args:
        make: gives a server with its handlers and its port, which has not started; the same port each time. Raises
            OSError where the port is taken.
    """

    def __init__(self, make: Callable[[], grpc.aio.Server]) -> None:
        self._make: Final = make
        self._servers: set[grpc.aio.Server] = set()
        """The one that listens, and broken ones whose calls have not ended."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: Final = asyncio.Event()
        self._stopping = False
        self._error: OSError | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        server = self._make()
        try:
            made = await _started(server)
        except asyncio.CancelledError:
            with suppress(asyncio.InvalidStateError):  # nobody waits for it to have started
                await server.stop(None)
            raise
        if self._stopping:
            await server.stop(None)
            return
        for task in made:
            if getattr(task.get_coro(), "__qualname__", "").endswith("_server_main_loop"):
                task.add_done_callback(lambda accepting: self._accepted_its_last(accepting, server))
        self._servers.add(server)

    async def stop(self, grace: float) -> None:
        """Stop listening, let calls in flight finish for ``grace`` seconds, and cancel the others."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(server.stop(grace) for server in self._servers))
        self._ended.set()

    async def wait_for_termination(self) -> None:
        """Wait until it has been stopped.

        Raises:
            OSError: it was broken, and the port has been taken by another program since.
        """
        await self._ended.wait()
        if self._error is not None:
            raise self._error

    def _accepted_its_last(self, accepting: asyncio.Task[None], server: grpc.aio.Server) -> None:
        if self._stopping or accepting.cancelled() or accepting.exception() is None:
            return
        logger.error("a caller sent a path that is not UTF-8, which breaks gRPC's server: listening again")
        for going_on in (self._start_again(), self._let_finish(server)):
            task = accepting.get_loop().create_task(going_on)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _start_again(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _TRYING_SECONDS
        while True:
            try:
                return await self.start()
            except OSError as error:  # until gRPC has let go of the port
                if loop.time() > deadline:
                    logger.error("%s", error)
                    self._error = error
                    self._ended.set()
                    return None
            await asyncio.sleep(_POLLING_SECONDS)

    async def _let_finish(self, server: grpc.aio.Server) -> None:
        with suppress(asyncio.CancelledError):
            await server.stop(_UNTIL_IT_ENDS)
            self._servers.discard(server)


@coroutine
def _started(server: grpc.aio.Server) -> Generator[Any, Any, set[asyncio.Task[Any]]]:
    """Start a server: the tasks that this made, none of them another server's that starts at the same time."""
    before = asyncio.all_tasks()
    steps = server.start().__await__()
    waiting = next(steps)  # it makes them before it waits
    made = asyncio.all_tasks() - before
    yield waiting
    yield from steps
    return made

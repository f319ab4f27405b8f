"""For the tests of a service: it is served for real, on a free port of the loopback.

A pytest plugin, for who asks for it in ``conftest.py``::

    pytest_plugins = ["ephaptic_grpc.testing"]

and a test::

    def test_add(serve):
        served = serve(chat)
        assert served.client.add(1, 2) == 3                       # the blocking client
        stub = chat_pb2_grpc.ChatServiceStub(served.channel)      # or generated stubs

In an asynchronous test write ``async with Server(chat, port=0) as server`` instead: grpc.aio doesn't like a second
event loop in a process.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc
import pytest

from ephaptic_grpc.server import Server
from ephaptic_grpc.service import Service, default_service
from ephaptic_grpc.sync_client import SyncClient, connect_sync

_READY_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs.

    Attributes:
        address: where it listens, such as ``127.0.0.1:41234``.
        channel: a channel to it that is connected, for generated stubs.
        client: a blocking client of the first of its services.
    """

    address: str
    channel: grpc.Channel
    client: SyncClient


@contextmanager
def serving(*services: Service, **options: Any) -> Iterator[Served]:
    """Serve in a thread of its own, until the ``with`` block ends.

    Args:
        services: as of ``Server``.
        options: those of ``Server``; the port is a free one unless given.
    """
    started: Future[Callable[[], object]] = Future()
    server = Server(*services, **{"port": 0, "grace": 0.0, **options})

    async def run() -> None:
        stop = asyncio.Event()
        async with server:
            loop = asyncio.get_running_loop()
            started.set_result(lambda: loop.call_soon_threadsafe(stop.set))
            await stop.wait()

    def serve() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=serve, name="ephaptic_grpc-serving", daemon=True)
    thread.start()
    stop = started.result()
    try:
        with grpc.insecure_channel(server.address) as channel:
            grpc.channel_ready_future(channel).result(timeout=_READY_SECONDS)
            with connect_sync(server.address, services[0] if services else default_service) as client:
                yield Served(server.address, channel, client)
    finally:
        stop()
        thread.join()


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """``serve(*services, **options)`` serves them until the test ends; the options are those of ``Server``."""
    with ExitStack() as stack:
        yield lambda *services, **options: stack.enter_context(serving(*services, **options))

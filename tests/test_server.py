"""The life of a server: addresses, health, limits, calls as functions see them, and its end."""

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from types import ModuleType

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from waiting import eventually

from ephaptic_grpc import (
    CallError,
    ExposeError,
    Limits,
    Server,
    Service,
    connect,
    connect_sync,
    current_call,
    default_service,
)
from ephaptic_grpc.asgi import web_app

pytestmark = pytest.mark.anyio

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@pytest.fixture
def service() -> Service:
    service = Service("life.v1.LifeService")

    @service.expose
    async def add(a: int, b: int) -> int:
        return a + b

    @service.expose
    async def waits() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    return service


# --- addresses


async def test_a_free_port_is_taken_and_told(service):
    async with Server(service, port=0) as server, connect(server.address, service) as client:
        assert server.port > 0
        assert server.address == f"127.0.0.1:{server.port}"
        assert await client.add(1, 2) == 3


@pytest.mark.parametrize("host", ["::1", "localhost"])
async def test_other_hosts(service, host):
    try:
        with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError:
        pytest.skip(f"this machine has no {host}")
    async with Server(service, host=host, port=0) as server, connect(server.address, service) as client:
        assert await client.add(1, 2) == 3


async def test_a_taken_port_is_an_error_that_says_so(service):
    async with Server(service, port=0) as server:
        with pytest.raises(OSError, match=f"{server.port}") as caught:
            await Server(service, port=server.port).start()
        assert caught.value.errno == errno.EADDRINUSE
        async with connect(server.address, service) as client:
            assert await client.add(1, 2) == 3
    gc.collect()


async def test_a_port_that_is_taken_after_it_was_looked_at_is_one_too(service, monkeypatch):
    monkeypatch.setattr("ephaptic_grpc.server.check_address", lambda host, port: None)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"can't listen on 127.0.0.1:{port}") as caught:
            await Server(service, port=port).start()
    assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("host", ["203.0.113.1", "no-such-host.invalid"])
async def test_an_address_that_is_not_ours_is_an_error_that_says_so(service, host):
    with pytest.raises(OSError, match=host):
        await Server(service, host=host, port=0).start()


async def test_two_servers_in_one_process(service):
    other = Service("other.v1.OtherService")

    @other.expose
    def name() -> str:
        return "other"

    async with (
        Server(service, port=0) as one,
        Server(other, port=0) as two,
        connect(one.address, service) as first,
        connect(two.address, other) as second,
    ):
        assert one.port != two.port
        assert await first.add(1, 2) == 3
        assert await second.name() == "other"
        async with connect(one.address, other) as lost:
            with pytest.raises(CallError) as caught:
                await lost.name()
            assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED


async def test_several_services_on_one_server(service):
    other = Service("other.v1.OtherService")

    @other.expose
    def add(a: str, b: str) -> str:
        return a + b

    async with (
        Server(service, other, port=0) as server,
        connect(server.address, service) as numbers,
        connect(server.address, other) as texts,
    ):
        assert await numbers.add(1, 2) == 3
        assert await texts.add("a", "b") == "ab"


def test_what_a_server_is_not_made_of(service):
    with pytest.raises(ValueError, match=r"one service of a name: life\.v1\.LifeService, life\.v1\.LifeService"):
        Server(service, Service("life.v1.LifeService"))
    assert Server().services == (default_service,)
    module = ModuleType("bot")
    module.chat = service
    for serving in (Server, web_app):
        with pytest.raises(TypeError, match=r"what is served are services, not <module 'bot'>: pass bot\.chat$"):
            serving(module)


def test_a_block_that_is_not_async_says_what_to_write(service):
    with pytest.raises(TypeError, match=r"write 'async with Server\(\.\.\.\)'"), Server(service, port=0):
        pass


async def test_what_is_still_undefined_when_a_server_is_made_is_named(service):
    @service.expose
    def late(value: "NotThere") -> int:  # noqa: F821
        return 1

    with pytest.raises(ExposeError, match="NotThere"):
        Server(service)


def test_a_server_in_a_thread_of_its_own(serve, service):
    assert serve(service).client.add(1, 2) == 3  # not an asynchronous client: grpcio up to 1.76 is noisy with two loops


# --- TLS


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_credentials(authority: trustme.CA) -> grpc.ServerCredentials:
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    return grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])


@pytest.fixture
def channel_credentials(authority: trustme.CA) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(authority.cert_pem.bytes())


async def test_credentials_on_both_sides(service, server_credentials, channel_credentials):
    async with Server(service, port=0, credentials=server_credentials, grace=0) as server:
        async with connect(server.address, service, credentials=channel_credentials) as client:
            assert await client.add(1, 2) == 3

        def blocking() -> int:
            with connect_sync(server.address, service, credentials=channel_credentials) as client:
                return client.add(1, 2)

        assert await asyncio.to_thread(blocking) == 3


async def test_strangers_and_plain_text_are_refused(service, server_credentials):
    async with Server(service, port=0, credentials=server_credentials, grace=0) as server:
        stranger = grpc.ssl_channel_credentials(trustme.CA().cert_pem.bytes())
        for credentials in (stranger, None):
            async with connect(server.address, service, credentials=credentials, timeout=10) as client:
                with pytest.raises(CallError) as caught:
                    await client.add(1, 2)
                assert caught.value.code is grpc.StatusCode.UNAVAILABLE


async def test_a_taken_port_with_credentials(service, server_credentials):
    async with Server(service, port=0) as server:
        with pytest.raises(OSError, match=f"{server.port}"):
            await Server(service, port=server.port, credentials=server_credentials).start()


# --- health


async def test_health_of_the_server_and_of_each_service(service):
    other = Service("other.v1.OtherService")
    async with Server(service, other, port=0) as server, grpc.aio.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "life.v1.LifeService", "other.v1.OtherService"):
            assert (await health.Check(health_pb2.HealthCheckRequest(service=name))).status == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health.Check(health_pb2.HealthCheckRequest(service="nobody"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_health_can_be_watched_to_the_end(service):
    server = Server(service, port=0, grace=30)
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        names = ("", "", "life.v1.LifeService", "nobody")
        watches = [health.Watch(health_pb2.HealthCheckRequest(service=name)) for name in names]
        statuses = [(await watch.read()).status for watch in watches]
        assert statuses == [SERVING, SERVING, SERVING, SERVICE_UNKNOWN]
        watches[1].cancel()
        await asyncio.wait_for(server.stop(), 5)  # and not after the grace
        assert (await watches[0].read()).status == NOT_SERVING
        assert (await watches[2].read()).status == NOT_SERVING
        for watch in watches:
            watch.cancel()
            await asyncio.wait_for(watch.code(), 5)


# --- what a function knows of its call


async def test_metadata_arrives(service):
    @service.expose
    async def metadata(key: str) -> list[str]:
        return current_call().metadata.get_all(key)

    @service.expose
    def metadata_in_thread(key: str) -> str | None:
        return current_call().metadata.get(key)

    @service.expose
    async def binary() -> str:
        return current_call().metadata["x-data-bin"].hex()

    async with Server(service, port=0) as server:
        options = {"X-Tenant": "a", "x-data-bin": b"\x00\xff"}
        async with connect(server.address, service, metadata=options) as client:
            assert await client.metadata("x-tenant") == ["a"]
            assert await client.metadata_in_thread("x-tenant") == "a"
            assert await client.metadata_in_thread("x-nothing") is None
            assert await client.binary() == "00ff"
            assert await client.with_options(metadata={"x-more": "b"}).metadata("x-tenant") == ["a"]
            assert await client.with_options(metadata={"x-more": "b"}).metadata("x-more") == ["b"]
            assert await client.with_options(metadata={"x-tenant": "c"}).metadata("x-tenant") == ["c"]
            several = client.with_options(metadata=[("x-more", "1"), ("x-more", "2")])
            assert await several.metadata("x-more") == ["1", "2"]


async def test_deadlines_reach_the_function(service):
    @service.expose
    async def remaining() -> float | None:
        return current_call().remaining()

    @service.expose
    def remaining_in_thread() -> Iterator[float | None]:
        yield current_call().remaining()

    @service.expose
    async def for_ever() -> None:
        await asyncio.Event().wait()

    async with Server(service, port=0) as server, connect(server.address, service) as client:
        assert await client.remaining() is None
        assert 20 < await client.with_options(timeout=30).remaining() < 31
        assert 20 < await anext(client.with_options(timeout=30).remaining_in_thread()) < 31
        assert await client.with_options(timeout=30).with_options(timeout=None).remaining() is None
        kept = client.with_options(timeout=30).with_options(metadata={"a": "b"})
        assert 20 < await kept.remaining() < 31
        with pytest.raises(CallError) as caught:
            await client.with_options(timeout=0).for_ever()
        assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


# --- limits


async def test_synchronous_functions_wait_for_a_thread(service):
    release = threading.Event()
    running = []

    @service.expose
    def blocks() -> int:
        running.append(1)
        assert release.wait(10)
        return 1

    async with Server(service, port=0, limits=Limits(threads=3)) as server, connect(server.address, service) as client:
        calls = [asyncio.create_task(client.blocks()) for _ in range(6)]
        await eventually(lambda: len(running) == 3)
        assert await client.add(1, 2) == 3  # needs no thread
        with pytest.raises(CallError) as caught:
            await client.with_options(timeout=0.1).blocks()
        assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await client.add(1, 2) == 3  # by now the server knows, too
        assert len(running) == 3
        release.set()
        assert await asyncio.gather(*calls) == [1] * 6
    assert len(running) == 6  # and not the one whose caller had gone


async def test_a_burst_of_calls_is_served(service):
    async with Server(service, port=0) as server, connect(server.address, service) as client:
        results = await asyncio.gather(*(client.add(i, i) for i in range(900)))
    assert results == [2 * i for i in range(900)]


# --- the end


async def test_stopping_lets_calls_finish_and_refuses_new_ones(service):
    release, begun = asyncio.Event(), asyncio.Event()

    @service.expose
    async def slow() -> str:
        begun.set()
        await release.wait()
        return "done"

    server = Server(service, port=0, grace=30)
    await server.start()
    async with connect(server.address, service) as client, connect(server.address, service) as other:
        call = asyncio.create_task(client.slow())
        await begun.wait()
        stop = asyncio.create_task(server.stop())
        with pytest.raises(CallError):
            while True:
                await other.add(1, 2)
        assert not stop.done()
        release.set()
        assert await call == "done"
        await asyncio.wait_for(stop, 5)


async def test_a_second_stop_shortens_the_grace(service):
    ended = asyncio.Event()

    @service.expose
    async def slow() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            ended.set()

    server = Server(service, port=0, grace=60)
    await server.start()
    async with connect(server.address, service) as client:
        stream = client.slow()
        await anext(stream)
        first = asyncio.create_task(server.stop())
        await asyncio.sleep(0)
        assert not first.done()
        await asyncio.wait_for(server.stop(0), 5)
        await asyncio.wait_for(first, 5)
        assert ended.is_set()
        with pytest.raises(CallError):
            await anext(stream)
    await server.stop()  # once more does nothing


async def test_clean_up_is_waited_for(service):
    steps = []

    @service.expose
    async def cleans_up() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.2)
            steps.append("cleaned up")

    async with connect("127.0.0.1:1", service):
        pass
    async with Server(service, port=0, grace=0) as server, connect(server.address, service) as client:
        stream = client.cleans_up()
        await anext(stream)
        await server.stop()
        steps.append("stopped")
    assert steps == ["cleaned up", "stopped"]


async def test_a_function_left_behind_is_logged_once(service, caplog):
    release = asyncio.Event()

    @service.expose
    async def deaf() -> AsyncIterator[int]:
        yield 1
        while not release.is_set():
            with suppress(asyncio.CancelledError):
                await release.wait()

    tasks = set(asyncio.all_tasks())
    limits = Limits(cleanup=0.1)
    async with Server(service, port=0, grace=0, limits=limits) as server, connect(server.address, service) as client:
        stream = client.deaf()
        await anext(stream)
        await asyncio.wait_for(server.stop(), 5)
        with pytest.raises(CallError):
            await anext(stream)
    release.set()
    await eventually(lambda: asyncio.all_tasks() <= tasks)
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors == ["/life.v1.LifeService/Deaf ignored its cancellation and was left behind"]


async def test_wait_can_be_given_up_and_the_server_still_drains(service):
    release, begun = asyncio.Event(), asyncio.Event()

    @service.expose
    async def slow() -> str:
        begun.set()
        await release.wait()
        return "done"

    async with Server(service, port=0, grace=30) as server, connect(server.address, service) as client:
        call = asyncio.create_task(client.slow())
        await begun.wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(server.wait(), 0.1)
        assert await client.add(1, 2) == 3
        stop = asyncio.create_task(server.stop())
        await asyncio.sleep(0)
        assert not stop.done()
        release.set()
        assert await call == "done"
        await asyncio.wait_for(stop, 5)


async def test_wait_ends_when_the_server_is_stopped(service):
    async with Server(service, port=0) as server:
        waiting = asyncio.create_task(server.wait())
        await asyncio.sleep(0)
        await server.stop()
        await asyncio.wait_for(waiting, 5)


async def test_a_server_starts_once(service):
    async with Server(service, port=0) as server:
        with pytest.raises(RuntimeError, match="a server starts once: make another one"):
            await server.start()
    with pytest.raises(RuntimeError, match="a server starts once: make another one"):
        await server.start()


async def test_a_server_whose_port_was_taken_can_try_again(service):
    async with Server(service, port=0) as first:
        second = Server(service, port=first.port)
        with pytest.raises(OSError, match="another program uses this port"):
            await second.start()
    async with second, connect(second.address, service) as client:
        assert await client.add(1, 2) == 3


@pytest.mark.parametrize("steps", [1, 2])
async def test_a_server_that_is_stopped_or_given_up_while_it_starts_does_not_listen(service, steps):
    stopped, given_up = Server(service, port=0), Server(service, port=0)
    starting = [asyncio.ensure_future(server.start()) for server in (stopped, given_up)]
    for _ in range(steps):
        await asyncio.sleep(0)
    await stopped.stop(0)
    starting[1].cancel()
    await asyncio.wait(starting)
    await given_up.stop(0)
    for server in (stopped, given_up):
        async with connect(server.address, service) as client:
            with pytest.raises(CallError, match="refused"):
                await client.add(1, 2)


async def test_each_server_of_a_program_hears_a_signal_and_so_do_handlers_of_its_own(service):
    loop, heard = asyncio.get_running_loop(), []
    loop.add_signal_handler(signal.SIGTERM, heard.append, "own")
    try:
        async with Server(service, port=0) as first, Server(service, port=0) as second:
            waiting = [asyncio.ensure_future(server.wait()) for server in (first, second)]
            await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(asyncio.gather(*waiting), 20)
        os.kill(os.getpid(), signal.SIGTERM)
        await eventually(lambda: heard == ["own", "own"])
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def test_waiting_for_a_server_that_has_not_been_started(service):
    server = Server(service, port=0)
    with pytest.raises(RuntimeError, match="has not been started"):
        await server.wait()
    await server.stop()


async def test_waiting_outside_of_the_main_thread(service):
    started, stopping = threading.Event(), threading.Event()

    async def run() -> None:
        async with Server(service, port=0) as server:
            waiting = asyncio.create_task(server.wait())
            started.set()
            await eventually(stopping.is_set)
            assert not waiting.done()
            await server.stop()
            await waiting

    thread = asyncio.create_task(asyncio.to_thread(asyncio.run, run()))
    await eventually(started.is_set)
    stopping.set()
    await asyncio.wait_for(thread, 5)


async def test_no_task_or_thread_outlives_a_server(service):
    @service.expose
    def in_thread() -> int:
        return 1

    @service.expose
    def stream_in_thread() -> Iterator[int]:
        while True:
            yield 1

    tasks, threads = set(asyncio.all_tasks()), threading.active_count()
    async with Server(service, port=0, grace=0) as server, connect(server.address, service) as client:
        assert await client.in_thread() == 1
        streams = [client.waits(), client.stream_in_thread()]
        for stream in streams:
            await anext(stream)
    await eventually(lambda: asyncio.all_tasks() <= tasks)
    await eventually(lambda: threading.active_count() <= threads + 1)  # grpc keeps a poller


@pytest.mark.once
@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"limits": {"calls": 5}}, TypeError, r"limits is a Limits, such as Limits\(calls=500\), not {'calls': 5}"),
        ({"port": "50051"}, TypeError, "a port is a number, not '50051'"),
        ({"grace": None}, TypeError, "grace is a number of seconds, not None"),
        ({"grace": -1}, ValueError, "grace is a number of seconds, 0 or more, not -1"),
        ({"grace": float("nan")}, ValueError, "grace is a number of seconds, 0 or more, not nan"),
    ],
)
def test_what_makes_no_sense_is_refused(given, error, said):
    with pytest.raises(error, match=said):
        Server(**given)

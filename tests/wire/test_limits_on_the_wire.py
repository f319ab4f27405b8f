"""Each bound of ``Limits``, at the limit and one past it, over gRPC and over HTTP."""

import asyncio
import re
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from http_server import serving_http
from plain_client import plain
from waiting import eventually, eventually_sync

from ephaptic_grpc import CallError, Client, Limits, Server, Service, connect, connect_sync, current_call
from ephaptic_grpc.asgi import web_app
from ephaptic_grpc.calling import print_items
from ephaptic_grpc.handshake import ChannelSecurity
from ephaptic_grpc.limits import JSON_BYTES
from ephaptic_grpc.options import Options
from ephaptic_grpc.payload import pack

pytestmark = pytest.mark.anyio

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
LATE = grpc.StatusCode.DEADLINE_EXCEEDED

bounded = Service("limits.v1.LimitsService")
ended: Counter[str] = Counter()


@bounded.expose
async def length(text: str) -> int:
    return len(text)


@bounded.expose(request_bytes=100)
async def short_length(text: str) -> int:
    return len(text)


@bounded.expose(request_bytes=JSON_BYTES + 1000)
async def long_length(text: str) -> int:
    return len(text)


@bounded.expose
async def text_of(size: int) -> str:
    return "x" * (size - 2)


@bounded.expose(reply_bytes=100)
def short_text_of(size: int) -> str:
    return "x" * (size - 2)


@bounded.expose(reply_bytes=JSON_BYTES + 1000)
async def long_text_of(size: int) -> str:
    return "x" * (size - 2)


@bounded.expose(reply_bytes=100)
async def texts_of(sizes: list[int]) -> AsyncIterator[str]:
    for size in sizes:
        yield "x" * (size - 2)


@bounded.expose(reply_bytes=100)
def sync_texts_of(sizes: list[int]) -> Iterator[str]:
    yield from ("x" * (size - 2) for size in sizes)


@bounded.expose
async def waits() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended["waits"] += 1


@bounded.expose
async def ignores(seconds: float) -> None:
    """Take no notice of a cancellation."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            ended["ignored"] += 1
    ended["ignores"] += 1


@bounded.expose
async def remaining() -> float | None:
    return current_call().remaining()


@bounded.expose(first_item_timeout=0.2)
async def late_first() -> AsyncIterator[int]:
    try:
        await asyncio.sleep(60)
        yield 1
    finally:
        ended["late_first"] += 1


@bounded.expose(idle_timeout=1, first_item_timeout=60)
async def then_idle() -> AsyncIterator[int]:
    try:
        for number in range(3):
            yield number
            await asyncio.sleep(0.01)
        await asyncio.sleep(60)
    finally:
        ended["then_idle"] += 1


@bounded.expose(idle_timeout=0.2)
def then_idle_in_thread() -> Iterator[int]:
    try:
        yield 0
        time.sleep(0.5)
    finally:
        ended["then_idle_in_thread"] += 1


@bounded.expose(idle_timeout=0.6)
async def large_items(count: int) -> AsyncIterator[str]:
    try:
        for _ in range(count):
            yield "x" * 1_000_000
    finally:
        ended["large_items"] += 1


@bounded.expose
async def two_timeouts() -> None:
    """Have a timeout of one's own that passes in the same turn of the loop as the deadline, and go on."""
    loop, seconds = asyncio.get_running_loop(), current_call().remaining()
    assert seconds is not None
    loop.call_later(seconds - 0.02, time.sleep, 0.04)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds - 0.001):
            await asyncio.sleep(60)
    await asyncio.sleep(60)


@asynccontextmanager
async def serving(**limits: float) -> AsyncIterator[Client]:
    async with (
        Server(bounded, port=0, grace=0, limits=Limits(**limits)) as server,
        connect(server.address, bounded, timeout=30) as client,
    ):
        yield client


async def refused(call, code: grpc.StatusCode) -> str:
    with pytest.raises(CallError) as caught:
        await call
    assert caught.value.code is code
    return caught.value.message


async def rest(stream) -> tuple[list, CallError | None]:
    items = []
    try:
        async for item in stream:
            items.append(item)  # noqa: PERF401  those before an error count
    except CallError as error:
        return items, error
    return items, None


async def test_requests():
    async with serving() as client:
        assert await client.length("x" * (JSON_BYTES - 11)) == JSON_BYTES - 11  # {"text":""}
        assert str(JSON_BYTES) in await refused(client.length("x" * (JSON_BYTES - 10)), EXHAUSTED)
        assert await client.short_length("x" * 89) == 89
        assert "more than 100 bytes" in await refused(client.short_length("x" * 90), EXHAUSTED)
        assert await client.long_length("x" * (JSON_BYTES + 989)) == JSON_BYTES + 989
        assert str(JSON_BYTES + 1000) in await refused(client.long_length("x" * (JSON_BYTES + 990)), EXHAUSTED)
        assert "larger than max" in await refused(client.long_length("x" * (JSON_BYTES + 2000)), EXHAUSTED)


async def test_replies(caplog):
    async with serving() as client:
        assert len(await client.text_of(JSON_BYTES)) == JSON_BYTES - 2
        assert str(JSON_BYTES) in await refused(client.text_of(JSON_BYTES + 1), EXHAUSTED)
        assert len(await client.short_text_of(100)) == 98
        assert "may have 100" in await refused(client.short_text_of(101), EXHAUSTED)
        assert len(await client.long_text_of(JSON_BYTES + 1000)) == JSON_BYTES + 998
        assert str(JSON_BYTES + 1000) in await refused(client.long_text_of(JSON_BYTES + 1001), EXHAUSTED)
    assert [record.getMessage() for record in caplog.records if "101 bytes" in record.getMessage()] == [
        "/limits.v1.LimitsService/ShortTextOf failed: the reply has 101 bytes of JSON, and may have 100"
    ]


@pytest.mark.parametrize("name", ["texts_of", "sync_texts_of"])
async def test_items(name):
    async with serving() as client:
        for caller in (client, plain(client)):
            sizes = [3, 100, 50, 101, 3]
            items, error = await rest(caller.call(name, sizes))
            assert [len(item) + 2 for item in items] == sizes[:3]
            assert error is not None
            assert error.code is EXHAUSTED
            assert len((await rest(caller.call(name, [100] * 1000)))[0]) == 1000


async def test_a_call_from_a_shell_takes_any_size(capfdbinary):
    async with Server(bounded, port=0) as server:
        request = pack(b"[%d]" % (JSON_BYTES + 1000))
        path = "/limits.v1.LimitsService/LongTextOf"
        await print_items(ChannelSecurity(server.address, None, None), path, request, Options.of(None, ()))
    assert len(capfdbinary.readouterr().out) == JSON_BYTES + 1001


async def test_replies_that_a_client_takes():
    async with Server(bounded, port=0, limits=Limits(reply_bytes=2 * JSON_BYTES)) as server:
        async with connect(server.address, "limits.v1.LimitsService") as client:
            assert len(await client.text_of(JSON_BYTES)) == JSON_BYTES - 2
            assert "larger than max" in await refused(client.text_of(JSON_BYTES + 100), EXHAUSTED)
            said = await refused(client.long_text_of(JSON_BYTES + 1000), EXHAUSTED)
        needed = int(re.search(r"to take such a reply: connect\(\.\.\., reply_bytes=(\d+)\)", said)[1])
        async with connect(server.address, "limits.v1.LimitsService", reply_bytes=needed) as client:
            assert len(await client.long_text_of(JSON_BYTES + 1000)) == JSON_BYTES + 998
        async with connect(server.address, bounded, reply_bytes=1000) as client:
            assert len(await client.text_of(1000)) == 998
            assert "larger than max" in await refused(client.text_of(1100), EXHAUSTED)
            for caller in (client, client.with_options(timeout=20)):  # of a stream, it is the largest item
                assert len([text async for text in caller.texts_of([90] * 300)]) == 300
        with connect_sync(server.address, bounded, reply_bytes=1000) as blocking:
            assert await asyncio.to_thread(lambda: len([*blocking.texts_of([90] * 300)])) == 300
        with connect_sync(server.address, bounded, reply_bytes=2 * JSON_BYTES) as blocking:
            assert await asyncio.to_thread(lambda: len(blocking.text_of(2 * JSON_BYTES))) == 2 * JSON_BYTES - 2


def test_a_number_of_bytes_that_is_none():
    for wrong in (0, 1.5, "4 MiB"):
        with pytest.raises(ValueError, match="reply_bytes must be a whole number"):
            connect("localhost:1", bounded, reply_bytes=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reply_bytes must be 2147483583 at most, not 2147483584"):
        connect("localhost:1", bounded, reply_bytes=2**31 - 64)
    assert connect("localhost:1", bounded, reply_bytes=2**31 - 65)


async def test_calls_at_the_same_time():
    async with (
        Server(bounded, port=0, grace=0, limits=Limits(calls=3)) as server,
        connect(server.address, bounded, timeout=30) as client,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        waiting = [asyncio.ensure_future(client.waits()) for _ in range(2)]
        stream = client.large_items(40)
        await anext(stream)
        messages = await asyncio.gather(*(refused(client.length("x"), EXHAUSTED) for _ in range(30)))
        assert set(messages) == {"the server has 3 calls at the same time, and takes no more"}
        health = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        before = ended["waits"]
        waiting[0].cancel()
        await eventually(lambda: ended["waits"] > before)
        assert await client.length("x") == 1
        stream.cancel()
        waiting[1].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_function_that_ignores_its_deadline_stays_counted():
    async with serving(calls=1, max_timeout=0.2) as client:
        ended.clear()
        assert await refused(client.ignores(1), LATE) == "the deadline has passed"
        assert ended == {"ignored": 1}
        await refused(client.length("x"), EXHAUSTED)

        await eventually(lambda: ended["ignores"] == 1)
        assert await client.length("x") == 1


async def test_a_timeout_of_a_function_does_not_hide_its_deadline():
    async with serving(max_timeout=0.2) as client:
        await asyncio.wait_for(refused(client.with_options(timeout=None).two_timeouts(), LATE), 20)


async def test_a_deadline_ends_a_stream_whose_caller_never_reads():
    ended.clear()
    no_room = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]
    async with (
        Server(bounded, port=0, grace=0, limits=Limits(calls=1, max_timeout=0.3)) as server,
        grpc.aio.insecure_channel(server.address, no_room) as channel,
        connect(server.address, bounded, timeout=30) as client,
    ):
        stream = channel.unary_stream("/limits.v1.LimitsService/LargeItems")(pack(b"[9]"))
        await stream.wait_for_connection()
        await eventually(lambda: ended["large_items"] == 1)
        assert await client.length("x") == 1
        assert len(await stream.read()) > 1_000_000
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        assert caught.value.code() is LATE


async def test_deadlines_of_the_server():
    async with serving(default_timeout=1, max_timeout=50) as client:
        endless = client.with_options(timeout=None)
        assert 0 < await endless.remaining() < 1.01
        assert 5 < await client.remaining() < 50
        assert 5 < await client.with_options(timeout=1000).remaining() < 51
        before = ended["waits"]
        await refused(endless.waits(), LATE)
        await eventually(lambda: ended["waits"] == before + 1)
        reader = endless.large_items(100)  # it is full of items that nobody takes
        assert len(await anext(reader)) == 1_000_000
        await asyncio.sleep(1.2)
        items, error = await rest(reader)
        assert len(items) < 99
        assert error is not None
        assert error.code is LATE
    async with serving(max_timeout=0.2) as client:
        await refused(client.waits(), LATE)
        await refused(client.with_options(timeout=None).waits(), LATE)
    async with serving() as client:
        assert await client.with_options(timeout=None).remaining() is None


@pytest.mark.parametrize(
    ("name", "before", "message"),
    [
        ("late_first", [], "no item came within 0.2 s"),
        ("then_idle", [0, 1, 2], "no item came for 1 s"),
        ("then_idle_in_thread", [0], "no item came for 0.2 s"),
    ],
)
async def test_streams_that_take_too_long(name, before, message):
    async with serving() as client:
        for caller in (client, plain(client), client.with_options(metadata={"ephaptic-heartbeat": "100"})):
            count = ended[name]
            items, error = await rest(caller.call(name))
            assert items == before
            assert error is not None
            assert (error.code, error.message) == (LATE, message)
            await eventually(lambda count=count: ended[name] == count + 1)


async def test_a_slow_reader_is_not_idle():
    async with serving() as client:
        stream = client.large_items(40)
        await anext(stream)
        await asyncio.sleep(1)
        items, error = await rest(stream)
        assert (len(items), error) == (39, None)


async def test_a_full_pool_of_threads_holds_nothing_else_up():
    gate = threading.Event()
    service = Service("limits.v1.ThreadsService")

    @service.expose
    def blocks() -> bool:
        return gate.wait(60)

    @service.expose
    async def passes() -> int:
        return 1

    async with (
        Server(service, port=0, grace=0, limits=Limits(threads=2)) as server,
        connect(server.address, service, timeout=30) as client,
    ):
        blocked = [asyncio.ensure_future(client.blocks()) for _ in range(2)]
        try:
            await refused(client.with_options(timeout=0.3).blocks(), LATE)
            assert await asyncio.gather(*(client.passes() for _ in range(20))) == [1] * 20
        finally:
            gate.set()
        assert await asyncio.gather(*blocked) == [True, True]
        assert await client.blocks()


@pytest.fixture(scope="module")
def http_url():
    limits = Limits(request_bytes=1000, reply_bytes=1000, calls=3, default_timeout=0.5)
    with serving_http(web_app(bounded, limits=limits)) as url:
        yield f"{url}/limits.v1.LimitsService/"


@pytest.fixture
def http(http_url):
    with httpx.Client(base_url=http_url, timeout=30) as client:
        yield client


@pytest.mark.once
def test_sizes_over_http(http):
    def code(answer: httpx.Response) -> int:
        return answer.json()["code"]

    assert http.post("Length", json=["x" * 996]).json() == 996
    assert code(http.post("Length", json=["x" * 997])) == 8
    assert http.post("ShortLength", json=["x" * 96]).json() == 96
    assert "more than 100 bytes" in http.post("ShortLength", json=["x" * 97]).json()["message"]
    assert http.post("LongLength", json=["x" * 10_000]).json() == 10_000
    assert len(http.post("TextOf", json=[1000]).json()) == 998
    assert "may have 1000" in http.post("TextOf", json=[1001]).json()["message"]
    assert len(http.post("LongTextOf", json=[5000]).json()) == 4998
    *_, last = http.post("TextsOf", json=[[3, 100, 101]]).text.splitlines()
    assert '"code":8' in last


@pytest.mark.once
def test_time_over_http(http):
    assert http.post("Waits", json=[]).json() == {"code": 4, "message": "the deadline has passed"}
    assert 0 < http.post("Remaining", json=[]).json() < 0.51
    assert 0.5 < http.post("Remaining", json=[], headers={"grpc-timeout": "9S"}).json() <= 9
    assert http.post("LateFirst", json=[]).json()["message"] == "no item came within 0.2 s"
    *items, last = http.post("ThenIdle", json=[], headers={"grpc-timeout": "9S"}).text.splitlines()
    assert items == ["0", "1", "2"]
    assert "no item came for 1 s" in last


@pytest.mark.once
def test_calls_at_the_same_time_over_http(http):
    before = ended["waits"]

    def waits() -> None:
        httpx.post(f"{http.base_url}Waits", json=[], headers={"grpc-timeout": "2S"}, timeout=30)

    def refuses() -> bool:
        answer = http.post("Length", json=["x"])
        assert answer.status_code in (200, 429)
        return answer.status_code == 429

    threads = [threading.Thread(target=waits) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually_sync(refuses)
    for thread in threads:
        thread.join()
    assert ended["waits"] == before + 3
    assert http.post("Length", json=["x"]).json() == 1

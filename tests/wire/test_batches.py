"""Several items in one message, and messages without any: only to callers that ask, and never seen by who loops."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Annotated, Any

import grpc
import pytest
from pydantic import AfterValidator, BaseModel
from waiting import eventually

from ephaptic_grpc import CallError, Server, Service, connect, connect_sync
from ephaptic_grpc.payload import pack
from ephaptic_grpc.testing import serving
from ephaptic_grpc.v1.payload_pb2 import Payload

pytestmark = pytest.mark.anyio

KINDS = ["in_loop", "in_thread"]
BATCH = ("ephaptic-batch", "1")

closed: list[str] = []


@pytest.fixture
def service() -> Service:
    service = Service("batches.v1.BatchService")
    closed.clear()

    @service.expose
    async def in_loop(items: list[Any], endless: bool = False) -> AsyncIterator[Any]:
        try:
            for item in items:
                yield item
            if endless:
                await asyncio.Event().wait()
        finally:
            closed.append("in_loop")

    @service.expose
    def in_thread(items: list[Any]) -> Iterator[Any]:
        try:
            yield from items
        finally:
            closed.append("in_thread")

    @service.expose
    async def quiet() -> AsyncIterator[int]:
        await asyncio.sleep(0.5)
        yield 1

    @service.expose
    async def busy() -> AsyncIterator[int]:
        for number in range(5):
            yield number
            await asyncio.sleep(0.02)

    @service.expose
    async def value() -> int:
        return 1

    return service


@pytest.fixture
async def server(service, anyio_backend) -> AsyncIterator[Server]:
    async with Server(service, port=0, grace=0) as server:
        yield server


async def messages(
    server: Server, function: str, *arguments: object, metadata: tuple[tuple[str, str], ...] = ()
) -> list[Payload]:
    """What a caller with nothing but stubs reads."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        method = channel.unary_stream(
            f"/batches.v1.BatchService/{function}",
            request_serializer=Payload.SerializeToString,
            response_deserializer=Payload.FromString,
        )
        return [message async for message in method(Payload(json=json.dumps(arguments)), metadata=metadata)]


# --- on the wire


@pytest.mark.parametrize("metadata", [(), (("ephaptic-batch", "0"),), (("ephaptic-batch", "yes"),)])
@pytest.mark.parametrize("function", ["InLoop", "InThread"])
async def test_stubs_get_a_message_for_each_item(server, function, metadata):
    numbers = list(range(1000))
    found = await messages(server, function, numbers, metadata=metadata)
    assert [json.loads(message.json) for message in found] == numbers
    assert not any(message.more for message in found)


@pytest.mark.parametrize("function", ["InLoop", "InThread"])
async def test_who_asks_gets_several_items_in_a_message(server, function):
    numbers = list(range(2000))
    found = await messages(server, function, numbers, metadata=(BATCH,))
    assert [json.loads(item) for message in found for item in (message.json, *message.more)] == numbers
    assert not found[0].more
    assert max(len(message.more) for message in found) > 1
    assert all(len(message.more) < 256 for message in found)


async def test_to_ask_for_batches_of_what_gives_one_value_changes_nothing(server):
    assert await messages(server, "Value", metadata=(BATCH,)) == [Payload(json="1")]


@pytest.mark.parametrize("asked", [(), (BATCH,)])
async def test_silence_is_broken_for_who_asks(server, asked):
    found = await messages(server, "Quiet", metadata=(*asked, ("ephaptic-heartbeat", "1")))
    assert found[-1] == Payload(json="1")
    assert 1 <= len(found[:-1]) <= 5  # not more often than every 100 ms
    assert all(message == Payload() for message in found[:-1])
    assert await messages(server, "Quiet", metadata=asked) == [Payload(json="1")]


async def test_who_asks_to_have_silence_broken_is_told_early_that_it_will_be(server):
    """Else a caller couldn't tell a server that is gone from one that breaks no silence, until the first one."""
    numbers = [Payload(json=str(number)) for number in range(5)]
    found = await messages(server, "Busy", metadata=(("ephaptic-heartbeat", "60000"),))
    assert found == [numbers[0], Payload(), *numbers[1:]]
    assert await messages(server, "Busy") == numbers


@pytest.mark.parametrize("value", ["", "-5", "soon", "12345678901"])
async def test_a_heartbeat_that_is_no_number_is_refused_before_anything_runs(server, value):
    with pytest.raises(grpc.RpcError) as caught:
        await messages(server, "InLoop", [1], metadata=(("ephaptic-heartbeat", value),))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "whole number of milliseconds" in caught.value.details()
    assert closed == []


# --- at the clients


@pytest.mark.parametrize("kind", KINDS)
async def test_every_item_arrives_in_order_at_every_client(server, service, kind):
    items = [0, "", None, [], False, {}, "é\u2028", *range(3000)]
    async with connect(server.address, service) as client, connect(server.address, service.name) as untyped:
        assert [item async for item in client.call(kind, items)] == items
        assert [item async for item in untyped.call(kind, items)] == items


def test_every_item_arrives_in_order_at_a_blocking_client(service):
    items = [0, "", None, [], False, {}, "é\u2028", *range(3000)]
    with serving(service) as served, connect_sync(served.address, service.name) as untyped:
        for kind in KINDS:
            assert list(served.client.call(kind, items)) == items
            assert list(untyped.call(kind, items)) == items


async def test_a_client_that_asks_for_heartbeats_does_not_see_them(server, service):
    metadata = {"ephaptic-heartbeat": "100"}
    async with connect(server.address, service, metadata=metadata) as client:
        assert [item async for item in client.quiet()] == [1]
    async with connect(server.address, service.name, metadata=metadata) as client:
        assert [item async for item in client.quiet()] == [1]


def test_a_blocking_client_that_asks_for_heartbeats_does_not_see_them(service):
    with serving(service) as served:
        assert list(served.client.with_options(metadata={"ephaptic-heartbeat": "100"}).quiet()) == [1]


class Node(BaseModel):
    number: int
    below: "Node | None" = None


def _check(number: int) -> int:
    if number < 0:
        raise RuntimeError("a validator that fails")
    return number


def declared() -> Service:
    """The same functions, as they would be if they gave other items."""
    service = Service("batches.v1.BatchService")

    @service.expose
    async def in_loop(items: list[Any], endless: bool = False) -> AsyncIterator[int]:
        yield 1

    @service.expose
    def in_thread(items: list[Any]) -> Iterator[Node]:
        raise NotImplementedError

    return service


def checked() -> Service:
    service = Service("batches.v1.BatchService")

    @service.expose
    async def in_loop(items: list[Any], endless: bool = False) -> AsyncIterator[Annotated[int, AfterValidator(_check)]]:
        yield 1

    return service


@pytest.mark.parametrize("place", [0, 1, 7, 300, 998, 999])
async def test_an_item_that_does_not_fit_fails_at_its_place_and_ends_the_call(server, place):
    items: list[object] = list(range(1000))
    items[place] = "a secret"
    async with connect(server.address, declared()) as client:
        found = []
        stream = client.in_loop(items, endless=True)
        with pytest.raises(
            CallError, match=r"doesn't fit its declared type: Input should be a valid integer"
        ) as caught:
            async for item in stream:
                found.append(item)  # noqa: PERF401
        assert caught.value.code is grpc.StatusCode.INTERNAL
        assert found == items[:place]
        with pytest.raises(CallError) as caught:
            await anext(stream)
        assert caught.value.code is grpc.StatusCode.CANCELLED
        await eventually(lambda: closed == ["in_loop"])


async def test_a_validator_that_fails_does_so_at_its_place_and_ends_the_call(server):
    async with connect(server.address, checked()) as client:
        found = []
        with pytest.raises(RuntimeError, match="a validator that fails"):
            async for item in client.in_loop([1, 2, 3, 4, 5, -6, 7], endless=True):
                found.append(item)  # noqa: PERF401
        assert found == [1, 2, 3, 4, 5]
        await eventually(lambda: closed == ["in_loop"])


async def test_models_that_hold_themselves_arrive(server):
    chain = {"number": 1, "below": {"number": 2, "below": None}}
    async with connect(server.address, declared()) as client:
        found = [item async for item in client.in_thread([chain] * 100)]
    assert found == [Node(number=1, below=Node(number=2))] * 100


def test_an_item_that_does_not_fit_fails_at_its_place_at_a_blocking_client(service):
    with serving(service) as served, connect_sync(served.address, declared()) as client:
        found = []
        stream = client.in_loop([1, 2, 3, 4, None, 6], endless=True)
        with pytest.raises(CallError, match="doesn't fit its declared type") as caught:
            for item in stream:
                found.append(item)  # noqa: PERF402
        assert caught.value.code is grpc.StatusCode.INTERNAL
        assert found == [1, 2, 3, 4]
        with pytest.raises(CallError) as caught:
            next(stream)
        assert caught.value.code is grpc.StatusCode.CANCELLED


async def test_what_came_with_others_is_gone_once_the_call_is_cancelled(server, service):
    async with connect(server.address, service) as client:
        stream = client.in_loop(list(range(1000)), endless=True)
        assert [await anext(stream) for _ in range(10)] == list(range(10))
        stream.cancel()
        with pytest.raises(CallError) as caught:
            await anext(stream)
        assert caught.value.code is grpc.StatusCode.CANCELLED
        await eventually(lambda: closed == ["in_loop"])


@pytest.mark.parametrize("kind", KINDS)
async def test_an_item_that_just_fits_arrives_among_small_ones(server, service, kind):
    big = "x" * (4 * 1024 * 1024 - 100)

    @service.expose
    async def big_in_loop() -> AsyncIterator[str]:
        for item in ("a", "b", "c", "d", big, "e", big, big, "f"):
            yield item

    @service.expose
    def big_in_thread() -> Iterator[str]:
        yield from ("a", "b", "c", "d", big, "e", big, big, "f")

    async with Server(service, port=0, grace=0) as server, connect(server.address, service) as client:
        lengths = [len(item) async for item in client.call(f"big_{kind}")]
    assert lengths == [1, 1, 1, 1, len(big), 1, len(big), len(big), 1]


async def test_a_loop_that_never_waits_leaves_turns_to_others(server, service):
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with connect(server.address, service) as client:
        taker = asyncio.create_task(take_turns())
        seen = []
        async for _ in client.in_loop(list(range(1000))):
            seen.append(turns)
            time.sleep(0.0005)  # noqa: ASYNC251
        taker.cancel()
    # Of those that came together no more than fit into 2 ms were looped over at a time.
    assert max(Counter(seen).values()) < 10


async def test_a_loop_that_is_cancelled_among_items_that_came_together_ends_the_call(server, service):
    async def read() -> None:
        async for item in client.in_loop(list(range(1000)), endless=True):
            time.sleep(0.0005)  # noqa: ASYNC251
            if item == 600:
                task.cancel()

    async with connect(server.address, service) as client:
        task = asyncio.create_task(read())
        await asyncio.wait([task])
        assert task.cancelled()
        await eventually(lambda: closed == ["in_loop"])


async def test_a_stream_that_is_cancelled_while_others_have_their_turn_gives_nothing_more(server, service):
    def cancel() -> None:
        stream.cancel()
        got.append("cancelled")

    async with connect(server.address, service) as client:
        stream, got = client.in_loop(list(range(1000)), endless=True), []
        with pytest.raises(CallError) as caught:
            async for item in stream:
                got.append(item)
                time.sleep(0.003)  # noqa: ASYNC251  so long that others have a turn before the next one
                if item == 600:
                    asyncio.get_running_loop().call_soon(cancel)
        assert caught.value.code is grpc.StatusCode.CANCELLED
        assert got[-1] == "cancelled"


# --- a server of another make


async def test_a_message_that_means_nothing_ends_the_call(service):
    answers = {"empty": b"", "foreign": b"\xff\xff", "half": Payload(more=["1"]).SerializeToString()}

    async def answer(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield pack(b"1", b"2", b"3")
        yield answers[Payload.FromString(request).json[2:-2]]
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    server = grpc.aio.server()
    handlers = {"InLoop": grpc.unary_stream_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("batches.v1.BatchService", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with connect(f"127.0.0.1:{port}", "batches.v1.BatchService") as client:
        for name in answers:
            found = []
            with pytest.raises(CallError, match="doesn't fit its declared type") as caught:
                async for item in client.in_loop(name):
                    found.append(item)  # noqa: PERF401
            assert caught.value.code is grpc.StatusCode.INTERNAL
            assert found == [1, 2, 3]
    await server.stop(0)


async def test_a_stream_that_was_cancelled_has_no_clean_end():
    service = Service("cancelled.v1.CancelledService")

    @service.expose
    async def many(count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    async with Server(service, port=0) as server, connect(server.address, service) as client:
        stream = client.many(10)
        assert await anext(stream) == 0
        await asyncio.sleep(0.05)  # whatever is on its way may come
        stream.cancel()
        with pytest.raises(CallError) as caught:
            await anext(stream)
        assert caught.value.code is grpc.StatusCode.CANCELLED

        left = client.many(10)
        async for _ in left:
            await asyncio.sleep(0.05)
            break
        with pytest.raises(CallError):
            _ = [number async for number in left]

        read = client.many(2)
        assert [number async for number in read] == [0, 1]
        read.cancel()
        assert [number async for number in read] == []


async def test_what_ends_before_it_streams_has_failed():
    service = Service("failed.v1.FailedService")

    async def empty() -> AsyncIterator[int]:
        for number in ():
            yield number

    @service.expose
    async def first() -> AsyncIterator[int]:
        await anext(empty())
        return empty()

    async with Server(service, port=0) as server, connect(server.address, service) as client:
        with pytest.raises(CallError) as caught:
            _ = [number async for number in client.first()]
        assert caught.value.code is grpc.StatusCode.INTERNAL

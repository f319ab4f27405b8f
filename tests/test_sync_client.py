"""The blocking client, for real: what is called, what comes back, and what ends a call."""

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date
from decimal import Decimal

import grpc
import pytest
from client_service import (
    ADA,
    User,
    began,
    ended,
    greeter,
    numbers,
    older,
    service,
    square,
    unexposed,
)
from pydantic import BaseModel
from waiting import eventually_sync

from ephaptic_grpc import CallError, Service, SyncStream, connect_sync
from ephaptic_grpc.payload import pack


@pytest.fixture
def served(serve):
    began.clear()
    ended.clear()
    return serve(service)


@pytest.fixture
def client(served):
    return served.client


@pytest.fixture
def untyped(served):
    with connect_sync(served.address, service.name) as client:
        yield client


# What is called, and what comes back


def test_values_come_back_as_their_declared_types(client):
    assert client.older(ADA, 2) == client.older(years=2, user=ADA) == User(name="Ada", born=date(1813, 12, 10))
    assert client.price("tea", count=3) == Decimal("3.30")
    stream = client.birthdays(ADA, count=2)
    assert isinstance(stream, SyncStream)
    assert [user.born.year for user in stream] == [1815, 1816]


def test_a_stream_of_ten_thousand_items_arrives_whole_and_in_order(client):
    assert list(client.numbers(10_000)) == list(range(10_000))


def test_an_unknown_function_is_an_attribute_error_with_a_suggestion(client):
    with pytest.raises(AttributeError, match=r"has no function 'oldr' \(did you mean 'older'\?\)"):
        client.oldr(ADA)


def test_functions_are_called_by_name_listed_and_bound(client, untyped):
    assert client.call("older", ADA, years=5) == client.bind(older)(ADA, 5) == client.older(ADA, 5)
    assert client.bind(greeter.greet)(ADA, mark="?") == "Hello, Ada?"
    assert client.bind(square)(3) == 9
    assert list(client.bind(numbers)(2)) == [0, 1]
    assert {"older", "numbers", "with_options"} <= set(dir(client))
    with pytest.raises(LookupError, match=r"not exposed on client\.v1\.ClientService"):
        client.bind(unexposed)
    with pytest.raises(TypeError, match="connect with the Service"):
        untyped.bind(older)


def test_a_client_by_name_gets_a_value_or_a_stream_by_what_the_server_says(untyped):
    user = {"name": "Ada", "born": "1815-12-10"}
    assert untyped.older(user, 2) == {"name": "Ada", "born": "1813-12-10"}
    assert untyped.remaining() is None
    assert list(untyped.numbers(count=2)) == [0, 1]
    assert list(untyped.numbers(0)) == []
    with closing(untyped.quiet()) as stream:  # at once, though no item ever comes
        assert isinstance(stream, SyncStream)
        eventually_sync(lambda: began == ["quiet"])
    eventually_sync(lambda: ended == ["quiet"])


def test_a_client_by_name_takes_arguments_by_position_or_by_name(untyped):
    with pytest.raises(TypeError, match="doesn't know the parameters' names: pass all by position, or all by name"):
        untyped.older(ADA, years=2)


def test_a_client_by_name_raises_what_the_server_says(untyped):
    for call, code in (
        (lambda: untyped.no_such_function(), grpc.StatusCode.UNIMPLEMENTED),
        (lambda: untyped.price("tea", "x"), grpc.StatusCode.INVALID_ARGUMENT),
        (lambda: list(untyped.numbers("x")), grpc.StatusCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(CallError) as caught:
            call()
        assert caught.value.code is code


def test_a_wrong_name_of_a_service_is_refused_at_once():
    with pytest.raises(ValueError, match=r"such as 'chat\.v1\.ChatService'"):
        connect_sync("localhost:1", "Client")


# Options and the connection


def test_options_are_of_one_client_only(served):
    with connect_sync(served.address, service, metadata={"X-A": "1", "x-b": "1"}) as client:
        other = client.with_options(timeout=60, metadata=[("X-B", "2"), ("x-raw-bin", b"\x00\xff")])
        assert other.sent() == [("x-a", "'1'"), ("x-b", "'2'"), ("x-raw-bin", r"b'\x00\xff'")]
        assert 0 < other.remaining() < 61
        assert client.sent() == [("x-a", "'1'"), ("x-b", "'1'")]
        assert client.remaining() is None


@pytest.mark.parametrize(
    "metadata",
    [{"x-a": "b\r\nx-admin: 1"}, {"x-a": "b\n"}, {"x-a": "ä"}, {"x a": "b"}, {"x-a\r\n": "b"}, {"": "b"}],
    ids=repr,
)
def test_metadata_that_no_header_can_carry_is_refused_at_once(client, metadata):
    with pytest.raises(ValueError, match="metadata"):
        connect_sync("localhost:1", service, metadata=metadata)
    with pytest.raises(ValueError, match="metadata"):
        client.with_options(metadata=metadata)


def test_after_the_timeout_a_stream_is_given_up(client):
    with pytest.raises(CallError) as caught:
        list(client.with_options(timeout=0.2).quiet())
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    eventually_sync(lambda: ended == began)


def test_no_server_is_unavailable():
    with connect_sync("127.0.0.1:1", service) as client:
        for call in (client.remaining, lambda: list(client.numbers(1))):
            with pytest.raises(CallError) as caught:
                call()
            assert caught.value.code is grpc.StatusCode.UNAVAILABLE


def test_with_closes_the_client_and_its_streams(served):
    with connect_sync(served.address, service) as client:
        stream = client.ticks()
        assert next(stream) == 0
    eventually_sync(lambda: ended == ["ticks"])
    with pytest.raises(CallError, match="CANCELLED"):
        list(stream)
    with pytest.raises(RuntimeError, match="the client is closed"):
        client.remaining()


def test_a_client_is_used_by_several_threads_at_once(client):
    with ThreadPoolExecutor(8) as threads:
        streams = threads.map(lambda count: list(client.numbers(count)), range(50))
        values = threads.map(lambda years: client.older(ADA, years).born.year, range(50))
        assert list(streams) == [list(range(count)) for count in range(50)]
        assert list(values) == [1815 - years for years in range(50)]


# What ends a call


def _break(client, name):
    for _ in client.call(name):
        break


def _exception(client, name):
    with pytest.raises(ZeroDivisionError):
        for number in client.call(name):
            1 / (number - number)


def _interrupt(client, name):
    with pytest.raises(KeyboardInterrupt):
        for _ in client.call(name):
            raise KeyboardInterrupt


def _drop(client, name):
    stream = client.call(name)
    next(stream)
    del stream
    gc.collect()


def _closing(client, name):
    with closing(client.call(name)) as stream:
        assert next(stream) == 0
    with pytest.raises(CallError, match="CANCELLED"):
        next(stream)


def _cancel(client, name):
    stream = client.call(name)
    with pytest.raises(CallError) as caught:
        for _ in stream:
            stream.cancel()
    assert caught.value.code is grpc.StatusCode.CANCELLED


@pytest.mark.parametrize("leave", [_break, _exception, _interrupt, _drop, _closing, _cancel])
@pytest.mark.parametrize("name", ["ticks", "blocking_ticks"])
@pytest.mark.parametrize("kind", ["client", "untyped"])
def test_leaving_a_stream_stops_its_generator(client, untyped, kind, name, leave):
    leave(client if kind == "client" else untyped, name)
    eventually_sync(lambda: ended == [name])
    assert client.remaining() is None  # the connection is as good as before


def test_another_thread_cancels_a_stream_that_waits(client):
    stream = client.quiet()

    def cancel() -> None:
        eventually_sync(lambda: began == ["quiet"])
        stream.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(CallError) as caught:
        list(stream)
    assert caught.value.code is grpc.StatusCode.CANCELLED
    thread.join()
    eventually_sync(lambda: ended == ["quiet"])


def test_a_message_that_comes_while_another_thread_cancels_gives_nothing_more(client):
    class Cancelled:
        """grpc's call, which is cancelled just as a message has come."""

        def __init__(self) -> None:
            self.messages = iter([pack(b"1", b"2")])

        def __next__(self) -> bytes:
            message = next(self.messages)
            stream.cancel()
            return message

        def cancel(self) -> None: ...

    whole = client.numbers(1)
    stream = SyncStream(Cancelled(), whole._method, whole._security)
    with pytest.raises(CallError) as caught:
        next(stream)
    assert caught.value.code is grpc.StatusCode.CANCELLED


# A server with another version of a model


class OldUser(BaseModel):
    tags: list[str]


class NewUser(BaseModel):
    tags: list[int]


def shop(model: type[BaseModel], stopped: list[bool]) -> Service:
    service = Service("shop.v1.ShopService")

    @service.expose(response_model=model)
    async def user():
        return {"tags": ["1", "hunter2"]}

    @service.expose(response_model=model)
    async def users():
        try:
            yield {"tags": []}
            yield {"tags": ["hunter2"]}
            await asyncio.Event().wait()
        finally:
            stopped.append(True)

    return service


def test_a_reply_of_another_type_says_where_and_not_what(serve):
    stopped: list[bool] = []
    with connect_sync(serve(shop(OldUser, stopped)).address, shop(NewUser, [])) as client:
        stream = client.users()
        assert next(stream) == NewUser(tags=[])
        for call, place in (
            (client.user, "User doesn't fit its declared type: tags[1]: "),
            (lambda: next(stream), "Users doesn't fit its declared type: tags[0]: "),
        ):
            with pytest.raises(CallError) as caught:
                call()
            assert caught.value.code is grpc.StatusCode.INTERNAL
            assert f"/shop.v1.ShopService/{place}" in caught.value.message
            assert "hunter2" not in caught.value.message
        eventually_sync(lambda: stopped)  # the stream is still held, and yet its call has ended

"""The asynchronous client, for real: what is called, what comes back, and what ends a call."""

import asyncio
import functools
import gc
from contextlib import aclosing, suppress
from decimal import Decimal

import anyio
import grpc
import pytest
from client_service import ADA, Greeter, User, began, ended, greeter, numbers, older, power, service, square, unexposed
from pydantic import BaseModel
from waiting import eventually

from ephaptic_grpc import CallError, Client, Server, Service, Stream, connect, connect_sync

pytestmark = pytest.mark.anyio


@pytest.fixture
async def address(anyio_backend):
    began.clear()
    ended.clear()
    async with Server(service, port=0, grace=0) as server:
        yield server.address


@pytest.fixture
async def client(address):
    async with connect(address, service) as client:
        yield client


@pytest.fixture
async def untyped(address):
    async with connect(address, service.name) as client:
        yield client


# What comes back


async def test_values_come_back_as_their_declared_types(client):
    assert await client.older(ADA, 2) == await client.older(years=2, user=ADA) == User(name="Ada", born="1813-12-10")
    assert await client.price("tea", count=3) == Decimal("3.30")
    assert [user.born.year async for user in client.birthdays(ADA, count=2)] == [1815, 1816]
    assert [number async for number in client.numbers(3)] == [0, 1, 2]


async def test_a_unary_call_is_a_coroutine_and_a_stream_is_a_stream(client):
    call = client.older(ADA)
    assert asyncio.iscoroutine(call)
    assert type(await call) is User
    stream = client.numbers(2)
    assert isinstance(stream, Stream)
    assert await stream is stream
    assert await anext(stream) == 0
    assert [number async for number in stream] == [1]
    assert [number async for number in await client.numbers(2)] == [0, 1]


# Not in the loop's debug mode, which would take most of the time.
@pytest.mark.parametrize("anyio_backend", ["quick", "uvloop"], indirect=True)
async def test_a_stream_of_ten_thousand_items_arrives_whole_and_in_order(client):
    assert [number async for number in client.many(10_000)] == list(range(10_000))


async def test_streams_and_calls_share_a_connection(client):
    async def count(number: int) -> list[int]:
        return [item async for item in client.many(number)]

    async with asyncio.timeout(30):
        quiet = client.quiet()  # holds up nothing
        found = await asyncio.gather(*(count(number) for number in range(50)), client.older(ADA))
        quiet.cancel()
    assert found[:-1] == [list(range(number)) for number in range(50)]


# What is called


async def test_an_unknown_function_is_an_attribute_error_with_a_suggestion(client):
    with pytest.raises(AttributeError, match=r"has no function 'oldr' \(did you mean 'older'\?\)"):
        client.oldr(ADA)
    with pytest.raises(AttributeError, match="has no function 'oldr'"):
        client.call("oldr", ADA)


async def test_a_function_is_called_by_its_name_as_text(client):
    assert await client.call("older", ADA, years=5) == await client.older(ADA, 5)
    assert [number async for number in client.call("numbers", 2)] == [0, 1]


async def test_dir_lists_the_functions(client, untyped):
    assert {"older", "numbers", "greet", "with_options", "close"} <= set(dir(client))
    assert "older" not in dir(untyped)


async def test_bind_takes_functions_bound_methods_and_partials(client):
    assert await client.bind(older)(ADA) == await client.older(ADA)
    assert await client.bind(greeter.greet)(ADA, mark="?") == "Hello, Ada?"
    assert await client.bind(square)(3) == 9
    assert [number async for number in client.bind(numbers)(2)] == [0, 1]


async def test_bind_refuses_what_is_not_exposed_and_clients_by_name(client, untyped):
    for function in (unexposed, Greeter("Bye").greet, functools.partial(power, exponent=3)):
        with pytest.raises(LookupError, match=r"not exposed on client\.v1\.ClientService"):
            client.bind(function)
    with pytest.raises(TypeError, match="connect with the Service"):
        untyped.bind(older)


@pytest.mark.parametrize("name", ["", "Client", "client.v1.", "client/v1", ".a.B", "a b.C"])
async def test_a_wrong_name_of_a_service_is_refused_at_once(name):
    with pytest.raises(ValueError, match=r"such as 'chat\.v1\.ChatService'"):
        connect("localhost:1", name)


# Options


async def test_metadata_is_merged_replaced_and_lowered(address):
    async with connect(address, service, metadata={"X-A": "1", "x-b": "1"}) as client:
        other = client.with_options(metadata=[("X-B", "2"), ("x-b", "3"), ("x-raw-bin", b"\x00\xff")])
        assert await other.sent() == [("x-a", "'1'"), ("x-b", "'2'"), ("x-b", "'3'"), ("x-raw-bin", r"b'\x00\xff'")]
        assert await client.sent() == [("x-a", "'1'"), ("x-b", "'1'")]


@pytest.mark.parametrize(
    "metadata",
    [{"x-a": "b\r\nx-admin: 1"}, {"x-a": "b\n"}, {"x-a": "ä"}, {"x a": "b"}, {"x-a\r\n": "b"}, {"": "b"}],
    ids=repr,
)
async def test_metadata_that_no_header_can_carry_is_refused_at_once(client, metadata):
    with pytest.raises(ValueError, match="metadata"):
        connect("localhost:1", service, metadata=metadata)
    with pytest.raises(ValueError, match="metadata"):
        client.with_options(metadata=metadata)


async def test_a_timeout_is_the_functions_deadline_and_of_one_client_only(client):
    hurried = client.with_options(timeout=60)
    assert 0 < await hurried.remaining() < 61
    assert 0 < await hurried.with_options(metadata={"x-a": "1"}).remaining() < 61
    assert await hurried.with_options(timeout=None).remaining() is None
    assert await client.remaining() is None


async def test_after_the_timeout_a_call_is_given_up_on_both_sides(client):
    hurried = client.with_options(timeout=0.3)
    for call in (hurried.wait_for_ever(), anext(hurried.quiet())):
        with pytest.raises(CallError) as caught:
            await call
        assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    await eventually(lambda: sorted(ended) == sorted(began))


# By a service's name


async def test_a_client_by_name_gets_plain_json_data(untyped):
    user = {"name": "Ada", "born": "1815-12-10"}
    assert await untyped.older(user, 2) == {"name": "Ada", "born": "1813-12-10"}
    assert await untyped.older(user=user) == {"name": "Ada", "born": "1814-12-10"}
    assert await untyped.remaining() is None
    assert [item["born"] async for item in untyped.birthdays(user, 2)] == ["1815-12-10", "1816-12-10"]
    assert [item async for item in untyped.numbers(count=0)] == []


async def test_to_await_what_streams_says_so_at_once(untyped):
    async with asyncio.timeout(10):
        for name, args in (("quiet", ()), ("numbers", (3,)), ("many", (0,))):
            with pytest.raises(TypeError, match=rf"streams: write 'async for item in client\.{name}\(\.\.\.\)'"):
                await untyped.call(name, *args)
    await eventually(lambda: ended == began)


async def test_a_step_of_a_loop_that_is_dropped_still_gives_its_item(client):
    assert await anext(aiter(client.numbers(3))) == 0
    await eventually(lambda: ended == began)


async def test_a_client_by_name_takes_arguments_by_position_or_by_name(untyped):
    with pytest.raises(TypeError, match="doesn't know the parameters' names: pass all by position, or all by name"):
        untyped.older(ADA, years=2)


async def test_a_client_by_name_raises_what_the_server_says(untyped):
    with pytest.raises(CallError) as caught:
        await untyped.no_such_function()
    assert str(caught.value) == "UNIMPLEMENTED: the server has no client.v1.ClientService/NoSuchFunction"
    assert not caught.value.stale
    with pytest.raises(CallError) as caught:
        [item async for item in untyped.numbers("x")]
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


# The connection


async def test_no_server_is_unavailable(address):
    async with connect("127.0.0.1:1", service) as client:
        for call in (client.older(ADA), anext(client.numbers(1))):
            with pytest.raises(CallError) as caught:
                await call
            assert caught.value.code is grpc.StatusCode.UNAVAILABLE
            assert caught.value.message


async def test_a_closed_client_says_so(address):
    client = connect(address, service)
    assert await client.remaining() is None
    await client.close()
    await client.close()
    with pytest.raises(RuntimeError, match="the client is closed"):
        await client.remaining()
    with pytest.raises(RuntimeError, match="the client is closed"):
        client.numbers(1)
    with pytest.raises(RuntimeError, match="the client is closed"):
        await client.with_options(timeout=1).remaining()


async def test_closing_a_client_ends_its_streams(address):
    async with connect(address, service) as client:
        stream = client.ticks("closed")
        assert await anext(stream) == 0
    await eventually(lambda: ended == ["closed"])
    with pytest.raises(CallError) as caught:
        [item async for item in stream]
    assert caught.value.code is grpc.StatusCode.CANCELLED


async def test_a_client_that_is_made_outside_of_a_loop_belongs_to_the_first_one_that_calls(address):
    client = await asyncio.to_thread(connect, address, service)  # where no loop runs
    assert await client.remaining() is None

    async def call() -> None:
        await client.remaining()

    with pytest.raises(RuntimeError, match="another event loop: connect once for each loop"):
        await asyncio.to_thread(asyncio.run, call())
    assert await client.remaining() is None
    await client.close()


async def test_a_client_leaves_no_tasks_behind(address):
    def tasks() -> list[str]:
        return sorted(task.get_coro().__qualname__ for task in asyncio.all_tasks())

    before = tasks()
    async with connect(address, service) as client:
        await client.older(ADA)
        [number async for number in client.numbers(3)]
        async for _ in client.ticks("left"):
            break
        stream = client.ticks("cancelled")
        await anext(stream)
        stream.cancel()
        task = asyncio.create_task(client.wait_for_ever())
        await eventually(lambda: "wait_for_ever" in began)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await eventually(lambda: tasks() == before)


# What ends a call


async def _break(client: Client) -> None:
    async for _ in client.ticks("x"):
        break


async def _exception(client: Client) -> None:
    with pytest.raises(ZeroDivisionError):
        async for number in client.ticks("x"):
            1 / (number - number)


async def _return(client: Client) -> int:
    async for number in await client.ticks("x"):
        return number
    raise AssertionError


async def _drop(client: Client) -> None:
    stream = client.ticks("x")
    await anext(stream)
    del stream
    gc.collect()


async def _aclosing(client: Client) -> None:
    async with aclosing(client.ticks("x")) as stream:
        assert await anext(stream) == 0
    with pytest.raises(CallError, match="CANCELLED"):
        await anext(stream)


async def _cancel(client: Client) -> None:
    seen = []
    stream = client.ticks("x")
    with pytest.raises(CallError) as caught:
        async for number in stream:
            seen.append(number)
            stream.cancel()
    assert seen[0] == 0
    assert caught.value.code is grpc.StatusCode.CANCELLED


@pytest.mark.parametrize("leave", [_break, _exception, _return, _drop, _aclosing, _cancel])
async def test_leaving_a_stream_stops_its_generator(client, leave):
    await leave(client)
    await eventually(lambda: ended == ["x"])
    assert await client.remaining() is None  # the connection is as good as before


async def test_a_stream_that_was_given_up_has_no_clean_end(client):
    stream = client.quiet()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(stream), 0.05)
    with pytest.raises(CallError, match="CANCELLED"):
        await anext(stream)


async def test_a_loop_that_waits_is_told_that_its_stream_was_cancelled(client):
    stream = client.quiet()

    async def loop() -> None:
        async for _ in stream:
            raise AssertionError

    task = asyncio.create_task(loop())
    await eventually(lambda: began == ["quiet"])
    stream.cancel()
    with pytest.raises(CallError, match="CANCELLED"):
        await task


@pytest.mark.parametrize("name", ["wait_for_ever", "quiet", "ticks"])
@pytest.mark.parametrize("kind", ["client", "untyped"])
async def test_a_cancelled_task_is_cancelled_and_so_is_its_call(client, untyped, name, kind):
    chosen = client if kind == "client" else untyped

    async def run() -> None:
        if name == "wait_for_ever":
            await chosen.wait_for_ever()
        async for _ in chosen.quiet() if name == "quiet" else chosen.ticks("ticks"):
            pass

    task = asyncio.create_task(run())
    await eventually(lambda: began == [name])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: ended == [name])


async def test_a_timeout_of_the_callers_own_is_a_timeout_error(client):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await client.wait_for_ever()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            async for _ in client.quiet():
                raise AssertionError
    await eventually(lambda: sorted(ended) == sorted(began))


@pytest.mark.parametrize("name", ["wait_for_ever", "quiet", "ticks"])
async def test_anyios_timeouts_end_calls_and_know_it(client, untyped, name):
    for chosen in (client, untyped):
        with anyio.move_on_after(0.05) as scope:
            call = chosen.call(name, *["x"] * (name == "ticks"))
            if name == "wait_for_ever":
                await call
            async for _ in call:
                pass
        assert scope.cancelled_caught
    with pytest.raises(TimeoutError), anyio.fail_after(0.05):
        await client.wait_for_ever()
    await eventually(lambda: sorted(ended) == sorted(began))
    assert await client.remaining() is None  # this task isn't cancelled any more


async def test_a_stream_that_a_clean_up_cancels_is_a_call_error_there_too(client):
    async def run() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            for cancel_at_once in (True, False):
                stream = client.quiet()
                cancel = stream.cancel
                if cancel_at_once:
                    cancel()
                else:
                    asyncio.get_running_loop().call_later(0.05, cancel)
                with pytest.raises(CallError, match="CANCELLED"):
                    await anext(stream)

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    task.cancel()
    await task


async def test_a_task_that_is_cancelled_with_its_stream_is_cancelled(client):
    stream = client.quiet()

    async def run() -> None:
        await anext(stream)

    task = asyncio.create_task(run())
    await eventually(lambda: began == ["quiet"])
    stream.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_call_of_a_client_by_name_is_a_task_where_one_is_made_of_it(untyped):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(untyped.square(number)) for number in range(3)]
        waiting = group.create_task(untyped.wait_for_ever())
        await eventually(lambda: began == ["wait_for_ever"])
        waiting.cancel()
    assert [task.result() for task in tasks] == [0, 1, 4]
    await eventually(lambda: ended == began)
    with pytest.raises(TypeError, match="streams: write 'async for"):
        await asyncio.create_task(untyped.numbers(3))


# A server with another version of a model


class NewUser(BaseModel):
    name: str
    tags: list[int]


class OldUser(BaseModel):
    name: str
    tags: list[str]


def shop(model: type[BaseModel], stopped: list[bool]) -> Service:
    service = Service("shop.v1.ShopService")

    @service.expose(response_model=model)
    async def user():
        return {"name": "Ada", "tags": ["1", "hunter2"] if model is OldUser else [1]}

    @service.expose(response_model=model)
    async def users():
        try:
            yield {"name": "Ada", "tags": []}
            yield {"name": "Ada", "tags": ["hunter2"] if model is OldUser else [1]}
            await asyncio.Event().wait()
        finally:
            stopped.append(True)

    return service


async def test_a_reply_of_another_type_says_where_and_not_what():
    stopped: list[bool] = []
    async with (
        Server(shop(OldUser, stopped), port=0, grace=0) as server,
        connect(server.address, shop(NewUser, [])) as client,
    ):
        with pytest.raises(CallError) as caught:
            await client.user()
        assert caught.value.code is grpc.StatusCode.INTERNAL
        assert "/shop.v1.ShopService/User doesn't fit its declared type: tags[" in caught.value.message
        assert "hunter2" not in caught.value.message
        stream = client.users()
        assert await anext(stream) == NewUser(name="Ada", tags=[])
        with pytest.raises(CallError) as caught:
            await anext(stream)
        assert caught.value.code is grpc.StatusCode.INTERNAL
        assert "/shop.v1.ShopService/Users doesn't fit its declared type: tags[0]: " in caught.value.message
        assert "hunter2" not in caught.value.message
        await eventually(lambda: stopped)  # the stream is still held, and yet its call has ended


async def test_a_loop_or_a_block_that_is_not_async_says_what_to_write(client):
    with pytest.raises(TypeError, match=r"numbers\(\.\.\.\) streams: write 'async for', or connect by connect_sync"):
        list(client.numbers(3))
    with pytest.raises(TypeError, match=r"write 'async with connect\(\.\.\.\)', or connect by connect_sync"), client:
        pass


@pytest.mark.once
async def test_no_tls_is_what_a_server_has_by_default(address):
    async with connect(address, service, tls=None) as client:
        assert await client.square(3) == 9
    with connect_sync(address, service, tls=None) as blocking:
        assert await asyncio.to_thread(blocking.square, 3) == 9

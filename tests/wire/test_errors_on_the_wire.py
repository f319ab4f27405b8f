"""What goes wrong, as it crosses the wire: read by the client, and by a plain grpc client that knows nothing of it."""

import asyncio
import json
import logging
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from pydantic import BaseModel, Field, field_validator

from ephaptic_grpc import CallError, Limits, Service, ServiceError, connect_sync
from ephaptic_grpc.v1.payload_pb2 import Payload

Code = grpc.StatusCode


class Address(BaseModel):
    city: str = Field(max_length=20)


class User(BaseModel):
    name: str
    addresses: list[Address] = []

    @field_validator("name")
    @classmethod
    def no_hunters(cls, name: str) -> str:
        if "hunter" in name:
            raise ValueError(f"{name} is not welcome")
        return name


class Conflict(BaseModel):
    ident: int
    at: datetime


AT = datetime(2024, 5, 1, tzinfo=UTC)


def failing(error: Callable[[], BaseException]) -> Service:
    """A service whose functions of all four kinds fail; the generators after two items."""
    service = Service("err.v1.ErrService")

    @service.expose
    async def coroutine() -> int:
        raise error()

    @service.expose
    def function() -> int:
        raise error()

    @service.expose
    async def async_generator() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise error()

    @service.expose
    def generator() -> Iterator[int]:
        yield 1
        yield 2
        raise error()

    return service


def failures(client: Any) -> Iterator[tuple[str, CallError]]:
    """What each of them raises at the client; the items come first."""
    for name in ("coroutine", "function"):
        with pytest.raises(CallError) as caught:
            client.call(name)
        yield name, caught.value
    for name in ("async_generator", "generator"):
        items = []
        with pytest.raises(CallError) as caught:
            for item in client.call(name):
                items.append(item)  # noqa: PERF402  what came before the error counts
        assert items == [1, 2]
        yield name, caught.value


def raised(error: Callable[[], Any]) -> CallError:
    with pytest.raises(CallError) as caught:
        error()
    return caught.value


def plain(channel: grpc.Channel, path: str, message: bytes, timeout: float | None = None) -> Any:
    """How a call by a client that knows nothing fails: grpc's own error."""
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path)(message, timeout=timeout)
    return caught.value


def trailing(error: Any) -> dict[str, Any]:
    return {key: value for key, value in error.trailing_metadata() or ()}  # noqa: C416  its items are tuples of grpc's own


def request(arguments: Any) -> bytes:
    return Payload(json=json.dumps(arguments)).SerializeToString()


# Meant by the function


def test_a_service_error_arrives_from_every_kind_of_function(serve):
    service = failing(lambda: ServiceError(Code.NOT_FOUND, "no such user", details={"id": 7}))
    for _, error in failures(serve(service).client):
        assert (error.code, error.message, error.details) == (Code.NOT_FOUND, "no such user", ({"id": 7},))
        assert str(error) == "NOT_FOUND: no such user"


def test_every_code_arrives_as_it_is(serve):
    service = Service("err.v1.ErrService")

    @service.expose
    async def fail(name: str) -> None:
        raise ServiceError(Code[name], name)

    @service.expose
    async def fail_later(name: str) -> AsyncIterator[int]:
        yield 1
        raise ServiceError(Code[name], name)

    client = serve(service).client
    for code in Code:
        if code is not Code.OK:
            error = raised(lambda code=code: client.fail(code.name))
            later = raised(lambda code=code: list(client.fail_later(code.name)))
            assert (error.code, error.message) == (later.code, later.message) == (code, code.name)


@pytest.mark.parametrize(
    ("details", "arrive"),
    [
        ({"id": 7, "why": None, "ä": [1.5, True]}, ({"id": 7, "why": None, "ä": [1.5, True]},)),
        ([{"a": 1}, "b", 0, [1]], ({"a": 1}, "b", 0, [1])),
        (Conflict(ident=1, at=AT), ({"ident": 1, "at": "2024-05-01T00:00:00Z"},)),
        ({"at": AT, "conflicts": [Conflict(ident=1, at=AT)]},) * 2,
        (
            [
                ErrorInfo(reason="R", domain="d", metadata={"k": "v"}),
                RetryInfo(retry_delay=Duration(seconds=3)),
                {"a": 1},
            ],
            (
                ErrorInfo(reason="R", domain="d", metadata={"k": "v"}),
                RetryInfo(retry_delay=Duration(seconds=3)),
                {"a": 1},
            ),
        ),
    ],
    ids=["a dict", "several", "a model", "nested", "messages of google.rpc"],
)
def test_details_arrive(serve, details, arrive):
    if arrive is details:  # models and times come back as JSON data
        at = "2024-05-01T00:00:00Z"
        arrive = ({"at": at, "conflicts": [{"ident": 1, "at": at}]},)
    for _, error in failures(serve(failing(lambda: ServiceError(Code.ABORTED, "x", details))).client):
        assert error.details == arrive


def test_a_plain_client_reads_details_as_google_rpc_status(serve):
    service = failing(
        lambda: ServiceError(Code.ABORTED, "try again", [RetryInfo(retry_delay=Duration(seconds=3)), [1]])
    )
    error = plain(serve(service).channel, "/err.v1.ErrService/Coroutine", b"")
    assert (error.code(), error.details()) == (Code.ABORTED, "try again")
    status = Status.FromString(trailing(error)["grpc-status-details-bin"])
    assert (status.code, status.message) == (Code.ABORTED.value[0], "try again")
    retry, payload = status.details
    assert RetryInfo.FromString(retry.value).retry_delay.seconds == 3
    assert retry.type_url == "type.googleapis.com/google.rpc.RetryInfo"
    assert Payload.FromString(payload.value).json == "[1]"
    assert payload.type_url == "type.googleapis.com/ephaptic_grpc.v1.Payload"


@pytest.mark.parametrize(
    ("message", "arrives"),
    [("a\nb\r\n\tc", "a\nb\r\n\tc"), ("größe 日本 𝄞 %41", "größe 日本 𝄞 %41"), ("日" * 7000, "日" * 340 + "…")],
    ids=["newlines", "non-ASCII", "21 KB"],
)
def test_messages_arrive_and_long_ones_are_cut(serve, message, arrives):
    for _, error in failures(serve(failing(lambda: ServiceError(Code.DATA_LOSS, message, "and details"))).client):
        assert error.code is Code.DATA_LOSS
        assert error.message == arrives
        assert error.details == ("and details",)


def test_details_that_are_too_large_are_left_out_and_logged(serve, caplog):
    for name, error in failures(serve(failing(lambda: ServiceError(Code.DATA_LOSS, "x", "y" * 20_000))).client):
        assert (error.code, error.message, error.details) == (Code.DATA_LOSS, "x", ())
        path = f"/err.v1.ErrService/{name.title().replace('_', '')}"
        assert any(path in line and "left out (at most 2048)" in line for line in caplog.messages)


# Not meant by the function


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("hunter2")

    __repr__ = __str__


def _chained() -> BaseException:
    error = KeyError("hunter2")
    error.__cause__ = ServiceError(Code.NOT_FOUND, "hunter2", {"hunter2": 1})
    error.add_note("hunter2")
    return error


def _another_services() -> BaseException:
    return CallError(Code.NOT_FOUND, "hunter2", {"password": "hunter2"})


class _RpcError(grpc.RpcError):
    """As grpc raises it where a function calls another service by a plain stub."""


@pytest.mark.parametrize(
    "error",
    [
        lambda: ValueError("hunter2"),
        lambda: OSError(2, "hunter2", "/hunter2"),
        lambda: ExceptionGroup("hunter2", [ServiceError(Code.NOT_FOUND, "hunter2"), ValueError("hunter2")]),
        lambda: _RpcError("hunter2"),
        lambda: SystemExit("hunter2"),
        lambda: AssertionError("hunter2"),
        UnspeakableError,
        _chained,
        _another_services,
    ],
    ids=["value", "os", "group", "rpc", "exit", "assertion", "unspeakable", "chained", "call"],
)
def test_anything_else_is_an_id_that_the_log_has_too(serve, caplog, error):
    served = serve(failing(error))
    with caplog.at_level(logging.ERROR, "ephaptic_grpc"):
        found = list(failures(served.client))
    ids = set()
    for name, failure in found:
        assert failure.code is Code.INTERNAL
        assert failure.details == ()
        assert failure.message.startswith("internal error (error id ")
        error_id = failure.message.removeprefix("internal error (error id ").removesuffix(")")
        ids.add(error_id)
        (record,) = [record for record in caplog.records if error_id in record.getMessage()]
        assert record.getMessage().startswith(f"/err.v1.ErrService/{name.title().replace('_', '')} failed")
        assert record.exc_info is not None
        # the place where it was raised
        assert any(frame.name == name for frame in traceback.extract_tb(record.exc_info[2]))
    assert len(ids) == 4


def test_no_word_of_it_is_on_the_wire(serve, caplog):
    channel = serve(failing(_chained)).channel
    for name in ("Coroutine", "Function"):
        error = plain(channel, f"/err.v1.ErrService/{name}", b"")
        assert error.code() is Code.INTERNAL
        assert trailing(error) == {}
        assert "hunter2" not in f"{error} {error.details()} {error.initial_metadata()} {error.debug_error_string()}"
    for name in ("AsyncGenerator", "Generator"):
        call = channel.unary_stream(f"/err.v1.ErrService/{name}")(b"")
        assert [Payload.FromString(next(call)).json for _ in range(2)] == ["1", "2"]
        with pytest.raises(grpc.RpcError):
            next(call)
        assert call.code() is Code.INTERNAL
        assert trailing(call) == {}
        assert "hunter2" not in f"{call} {call.details()} {call.initial_metadata()} {call.debug_error_string()}"


def test_the_error_of_another_service_is_not_relayed(serve, caplog):
    inner = serve(failing(lambda: ServiceError(Code.PERMISSION_DENIED, "hunter2", {"token": "hunter2"})))
    outer = Service("outer.v1.OuterService")

    @outer.expose
    def ask() -> int:
        return inner.client.coroutine()

    error = raised(serve(outer).client.ask)
    assert error.code is Code.INTERNAL
    assert error.message.startswith("internal error (error id ")
    assert error.details == ()


def test_a_value_of_another_type_than_declared_is_an_error_of_the_server(serve, caplog):
    service = Service("err.v1.ErrService")

    @service.expose
    async def value() -> int:
        return "hunter2"  # type: ignore[return-value]

    @service.expose
    def items() -> Iterator[int]:
        yield 1
        yield "hunter2"  # type: ignore[misc]

    client = serve(service).client
    stream = client.items()
    assert next(stream) == 1
    for error in (raised(client.value), raised(lambda: next(stream))):
        assert error.code is Code.INTERNAL
        assert error.message.startswith("internal error (error id ")


# Requests that mean nothing


@pytest.fixture
def greeting(serve):
    """A plain channel to a service, and what it was called with."""
    service = Service("greet.v1.GreetService")

    @service.expose
    async def greet(user: User, count: int = 1) -> str:
        return user.name * count

    @service.expose
    async def greetings(user: User, count: int = 1) -> AsyncIterator[str]:
        for _ in range(count):
            yield user.name

    return serve(service)


GREET = "/greet.v1.GreetService/Greet"
ADA = '{"user": {"name": "Ada"}}'


@pytest.mark.parametrize(
    "path", ["/greet.v1.GreetService/Nothing", "/greet.v1.GreetService/greet", "/nobody.v1.N/Greet", "/x"]
)
def test_what_is_not_exposed_is_unimplemented(greeting, path):
    assert plain(greeting.channel, path, b"").code() is Code.UNIMPLEMENTED


def test_an_unknown_function_or_service_is_unimplemented_to_a_client_by_name(greeting):
    for name in ("greet.v1.GreetService", "nobody.v1.NobodyService"):
        with connect_sync(greeting.address, name) as client:
            assert raised(client.nothing).code is Code.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"\xff\xff\xff", "not an ephaptic_grpc.v1.Payload"),
        (b'{"user": {"name": "Ada"}}', "not an ephaptic_grpc.v1.Payload"),
        (Payload(content_type="application/x-msgpack", json=ADA).SerializeToString(), "'application/json'"),
        (Payload(content_type="APPLICATION/JSON; charset=utf-8", json=ADA).SerializeToString(), "'application/json'"),
        (b"\x0a\x02\xff\xfe" + Payload(json=ADA).SerializeToString(), "'application/json'"),
        (Payload(json=ADA, more=[ADA]).SerializeToString(), "'more'"),
        (b"", "user: Missing required argument"),
        (Payload(json="[]").SerializeToString(), "user: Missing required argument"),
        (Payload(json="{").SerializeToString(), "Invalid JSON"),
        (Payload(json="3").SerializeToString(), "bad arguments"),
        (Payload(json='"hunter2"').SerializeToString(), "bad arguments"),
        (Payload(json="null").SerializeToString(), "bad arguments"),
        (Payload(json="[" * 10_000).SerializeToString(), "Invalid JSON"),
        (b"\x12\x02\xff\xfe", "Invalid JSON"),
        (b"\x12\x17" + b'{"user":{"name":"A\xff\xfea"}}'[:23], "Invalid JSON"),
    ],
    ids=[
        "garbage", "bare JSON", "content type", "content type with parameters", "content type in no UTF-8", "more",
        "empty", "too few", "no JSON", "number", "text", "null", "deep", "no UTF-8", "no UTF-8 inside",
    ],
)  # fmt: skip
def test_a_request_that_means_nothing_is_an_invalid_argument(greeting, message, why):
    for path in (GREET, "/greet.v1.GreetService/Greetings"):
        error = plain(greeting.channel, path, message)
        assert error.code() is Code.INVALID_ARGUMENT, error.details()
        assert why in error.details()
        assert "hunter2" not in error.details()


@pytest.mark.parametrize("content_type", ["", "application/json"])
def test_json_by_either_name_is_accepted(greeting, content_type):
    reply = greeting.channel.unary_unary(GREET)(Payload(content_type=content_type, json=ADA).SerializeToString())
    assert Payload.FromString(reply) == Payload(json='"Ada"')


def test_fields_that_a_later_version_adds_are_ignored(greeting):
    reply = greeting.channel.unary_unary(GREET)(b"\x7a\x01x" + Payload(json=ADA).SerializeToString())
    assert Payload.FromString(reply) == Payload(json='"Ada"')


def test_a_request_over_the_limit_exhausts_it(serve):
    service = Service("size.v1.SizeService")
    service.expose(name="size")(lambda text: len(text))
    client = serve(service, limits=Limits(request_bytes=10_000)).client
    assert client.size("x" * 9_000) == 9_000
    assert raised(lambda: client.size("x" * 10_001)).code is Code.RESOURCE_EXHAUSTED
    assert client.size("x") == 1


# Bad arguments


BAD_USER = {"name": "Ada", "addresses": [{"city": "hunter2" * 4}, {"city": 2222}, {}]}


def violations(error: Any) -> list[BadRequest.FieldViolation]:
    """What a stranger reads from the trailers."""
    assert error.code() is Code.INVALID_ARGUMENT
    status = Status.FromString(trailing(error)["grpc-status-details-bin"])
    assert (status.code, status.message) == (3, error.details())
    (detail,) = status.details
    bad = BadRequest()
    assert detail.Unpack(bad)
    return list(bad.field_violations)


@pytest.mark.parametrize("function", ["Greet", "Greetings"])
def test_bad_arguments_have_the_same_paths_by_position_and_by_name(greeting, function):
    found = [
        violations(plain(greeting.channel, f"/greet.v1.GreetService/{function}", request(arguments)))
        for arguments in ([BAD_USER, "hunter2"], {"user": BAD_USER, "count": "hunter2"})
    ]
    assert found[0] == found[1]
    assert [violation.field for violation in found[0]] == [
        "user.addresses[0].city",
        "user.addresses[1].city",
        "user.addresses[2].city",
        "count",
    ]
    assert [violation.description for violation in found[0]][:3] == [
        "String should have at most 20 characters",
        "Input should be a valid string",
        "Field required",
    ]


def test_the_client_has_them_too(greeting):
    with connect_sync(greeting.address, "greet.v1.GreetService") as client:
        for error in (raised(lambda: client.greet(BAD_USER)), raised(lambda: client.greet(user=BAD_USER))):
            assert error.code is Code.INVALID_ARGUMENT
            assert error.message == (
                "bad arguments: user.addresses[0].city: String should have at most 20 characters (and 2 more)"
            )
            (detail,) = error.details
            assert detail.field_violations[0].field == "user.addresses[0].city"


def test_what_is_unknown_or_too_many_is_a_violation(greeting):
    by_name = violations(plain(greeting.channel, GREET, request({"user": {"name": "Ada"}, "colour": "hunter2"})))
    assert [violation.field for violation in by_name] == ["colour"]
    by_position = violations(plain(greeting.channel, GREET, request([{"name": "Ada"}, 1, "hunter2"])))
    assert len(by_position) == 1


def test_at_most_sixteen_are_told_and_all_are_counted(greeting):
    error = plain(greeting.channel, GREET, request([{"name": "Ada", "addresses": [{"city": 2222}] * 100}]))
    assert [violation.field for violation in violations(error)] == [f"user.addresses[{n}].city" for n in range(16)]
    assert error.details().endswith("(and 99 more)")


@pytest.mark.parametrize("count", [1, 16, 900, 5000])
def test_long_paths_and_many_errors_still_arrive(greeting, count):
    bad = {"name": "Ada", "addresses": [{"city": "hunter2" * 100}] * count, "ü" * 3000: 1}
    error = plain(greeting.channel, GREET, request({"user": bad, "ü" * 3000: "hunter2"}))
    assert error.code() is Code.INVALID_ARGUMENT
    assert "hunter2" not in error.details()
    assert not any(b"hunter2" in value for value in trailing(error).values())


@pytest.mark.parametrize("arguments", [[{"name": "hunter2"}], {"user": {"name": "hunter2"}}, ["hunter2", "hunter2"]])
def test_the_value_is_never_told(greeting, arguments):
    error = plain(greeting.channel, GREET, request(arguments))
    assert error.code() is Code.INVALID_ARGUMENT
    assert "hunter2" not in error.details()
    told = violations(error)
    assert told[0].field.startswith("user")
    assert "hunter2" not in str(told)


# Time


def test_after_the_deadline_the_call_is_given_up(serve):
    service = Service("slow.v1.SlowService")

    @service.expose
    async def slow() -> None:
        await asyncio.Event().wait()

    @service.expose
    async def slow_items() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    served = serve(service)
    client = served.client.with_options(timeout=0.2)
    assert raised(client.slow).code is Code.DEADLINE_EXCEEDED
    stream = client.with_options(timeout=2).slow_items()
    assert next(stream) == 1
    assert raised(lambda: next(stream)).code is Code.DEADLINE_EXCEEDED
    assert plain(served.channel, "/slow.v1.SlowService/Slow", b"", timeout=0.1).code() is Code.DEADLINE_EXCEEDED

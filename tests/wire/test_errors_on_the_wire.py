"""What goes wrong, as any gRPC client sees it: raw bytes go out, and a status with its details comes back."""

import logging
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import grpc
import pytest
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from pydantic import BaseModel, Field

from ephaptic_grpc import CallError, Limits, Service, ServiceError, connect_sync
from ephaptic_grpc.testing import Served
from ephaptic_grpc.v1.payload_pb2 import Payload

KINDS = ["coroutine", "function", "async_generator", "generator"]
DETAILS = "grpc-status-details-bin"


class Address(BaseModel):
    city: str = Field(max_length=10)


class User(BaseModel):
    name: str
    addresses: list[Address]


def raise_it(what: str) -> None:
    match what:
        case "service":
            raise ServiceError(grpc.StatusCode.NOT_FOUND, "no such user: Zoë", {"id": 7})
        case "message":
            info = error_details_pb2.ErrorInfo(reason="STOCKOUT", domain="shop.example")
            raise ServiceError(grpc.StatusCode.FAILED_PRECONDITION, "", [info, ["more", None]])
        case "unexpected":
            raise ValueError("a secret")
        case "call":
            raise CallError(grpc.StatusCode.PERMISSION_DENIED, "a secret", "of another service")
        case "long":
            raise ServiceError(grpc.StatusCode.ABORTED, "é" * 20_000)
        case "heavy":
            raise ServiceError(grpc.StatusCode.ABORTED, "see the log", "x" * 20_000)
        case "cancelled":
            raise ServiceError(grpc.StatusCode.CANCELLED, "by the function")


@pytest.fixture
def service() -> Service:
    service = Service("errors.v1.ErrorsService")

    @service.expose
    async def coroutine(what: str = "") -> int:
        raise_it(what)
        return 0

    @service.expose
    def function(what: str = "") -> int:
        raise_it(what)
        return 0

    @service.expose
    async def async_generator(what: str = "") -> AsyncIterator[int]:
        yield 1
        yield 2
        raise_it(what)

    @service.expose
    def generator(what: str = "") -> Iterator[int]:
        yield 1
        yield 2
        raise_it(what)

    @service.expose
    async def greet(user: User, times: int = 1) -> str:
        return user.name * times

    @service.expose
    async def stream_of(user: User) -> AsyncIterator[str]:
        yield user.name

    @service.expose
    async def wrong_value() -> int:
        return "a secret"

    return service


@dataclass
class Failure:
    """What a plain gRPC client gets."""

    code: grpc.StatusCode
    message: str
    details: list[object]
    items: int = 0


def call(served: Served, name: str, request: bytes = b"", *, stream: bool | None = None) -> Failure:
    """Call with plain grpc, and with bytes that are sent as they are."""
    streams = "Generator" in name or name == "StreamOf" if stream is None else stream
    path = f"/errors.v1.ErrorsService/{name}"
    items = 0
    with pytest.raises(grpc.RpcError) as caught:
        if streams:
            for _ in served.channel.unary_stream(path)(request, timeout=10):
                items += 1
        else:
            served.channel.unary_unary(path)(request, timeout=10)
    error = caught.value
    details = []
    for key, value in error.trailing_metadata():
        if key == DETAILS:
            status = Status.FromString(value)
            assert status.code == error.code().value[0]
            assert status.message == error.details()
            details += status.details
    return Failure(error.code(), error.details(), details, items)


def request(json: str) -> bytes:
    return Payload(json=json).SerializeToString()


def rpc(kind: str) -> str:
    return "".join(part.capitalize() for part in kind.split("_"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_service_error_arrives_as_it_was_raised(serve, service, kind):
    served = serve(service)
    failure = call(served, rpc(kind), request('["service"]'))
    assert (failure.code, failure.message) == (grpc.StatusCode.NOT_FOUND, "no such user: Zoë")
    assert failure.items == (2 if "generator" in kind else 0)
    (detail,) = failure.details
    payload = Payload()
    assert detail.Unpack(payload)
    assert payload.json == '{"id":7}'

    with pytest.raises(CallError) as caught:
        list(served.client.call(kind, "message")) if "generator" in kind else served.client.call(kind, "message")
    assert (caught.value.code, caught.value.message) == (grpc.StatusCode.FAILED_PRECONDITION, "")
    info = error_details_pb2.ErrorInfo(reason="STOCKOUT", domain="shop.example")
    assert caught.value.details == (info, ["more", None])


@pytest.mark.parametrize("what", ["unexpected", "call"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_unexpected_exception_is_internal_and_only_the_log_knows_more(serve, service, kind, what, caplog):
    failure = call(serve(service), rpc(kind), request(f'["{what}"]'))
    assert failure.code is grpc.StatusCode.INTERNAL
    assert failure.details == []
    assert failure.items == (2 if "generator" in kind else 0)
    error_id = re.fullmatch(r"internal error \(error id ([0-9a-f]{16})\)", failure.message)[1]
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert error_id in record.getMessage()
    assert f"/errors.v1.ErrorsService/{rpc(kind)}" in record.getMessage()
    assert "a secret" in caplog.text
    assert "raise_it" in caplog.text  # the traceback


@pytest.mark.parametrize("kind", KINDS)
def test_long_messages_are_cut_and_heavy_details_left_out(serve, service, kind, caplog):
    served = serve(service)
    failure = call(served, rpc(kind), request('["long"]'))
    assert failure.code is grpc.StatusCode.ABORTED
    assert failure.message.startswith("ééé")
    assert len(failure.message.encode()) <= 1024
    failure = call(served, rpc(kind), request('["heavy"]'))
    assert (failure.code, failure.message, failure.details) == (grpc.StatusCode.ABORTED, "see the log", [])
    assert "details of" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_a_status_of_cancelled_is_an_error_like_any_other(serve, service, kind):
    failure = call(serve(service), rpc(kind), request('["cancelled"]'))
    assert (failure.code, failure.message) == (grpc.StatusCode.CANCELLED, "by the function")


def test_a_value_that_does_not_fit_is_internal(serve, service, caplog):
    failure = call(serve(service), "WrongValue")
    assert failure.code is grpc.StatusCode.INTERNAL
    assert "secret" not in failure.message


@pytest.mark.parametrize("path", ["/errors.v1.ErrorsService/Nothing", "/nothing.v1.NoService/Greet", "/", "/x", ""])
@pytest.mark.parametrize("streams", [False, True])
def test_an_unknown_method_is_unimplemented(serve, service, path, streams):
    served = serve(service)
    with pytest.raises(grpc.RpcError) as caught:
        if streams:
            list(served.channel.unary_stream(path)(b"", timeout=10))
        else:
            served.channel.unary_unary(path)(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("name", ["Greet", "StreamOf", "Generator"])
@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"\xff\xff\xff", "the message is not an ephaptic_grpc.v1.Payload"),
        (Payload(content_type="text/plain", json="[]").SerializeToString(), "content_type"),
        (Payload(json="[]", more=["[]"]).SerializeToString(), "'more'"),
        (Payload(json="[").SerializeToString(), "bad arguments"),
        (Payload(json="7").SerializeToString(), "bad arguments"),
        (b"\x12\x02\xff\xfe", "bad arguments"),  # JSON that is no UTF-8
        (request("[" * 10_000), "bad arguments"),
    ],
)
def test_what_makes_no_sense_is_an_invalid_argument(serve, service, name, sent, said, caplog):
    failure = call(serve(service), name, sent)
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert said in failure.message
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_the_content_type_of_json_is_accepted_in_so_many_words(serve, service):
    served = serve(service)
    sent = Payload(content_type="application/json", json='[{"name": "a", "addresses": []}]').SerializeToString()
    reply = served.channel.unary_unary("/errors.v1.ErrorsService/Greet")(sent)
    assert Payload.FromString(reply) == Payload(json='"a"')


@pytest.mark.parametrize(
    "json",
    [
        '[{"name": "Ada", "addresses": [{"city": "a secret that is too long"}]}, "many secrets"]',
        '{"user": {"name": "Ada", "addresses": [{"city": "a secret that is too long"}]}, "times": "many secrets"}',
    ],
)
def test_bad_arguments_say_which_by_the_standard_details(serve, service, json):
    failure = call(serve(service), "Greet", request(json))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "secret" not in failure.message
    (detail,) = failure.details
    bad = error_details_pb2.BadRequest()
    assert detail.Unpack(bad)
    fields = {violation.field: violation.description for violation in bad.field_violations}
    assert list(fields) == ["user.addresses[0].city", "times"]
    assert "at most 10 characters" in fields["user.addresses[0].city"]
    assert "secret" not in str(bad)


def test_bad_arguments_can_be_read_with_grpcio_status(serve, service):
    served = serve(service)
    with pytest.raises(grpc.RpcError) as caught:
        served.channel.unary_unary("/errors.v1.ErrorsService/Greet")(request("{}"))
    status = rpc_status.from_call(caught.value)
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    bad = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(bad)
    assert [violation.field for violation in bad.field_violations] == ["user"]


def test_bad_arguments_are_capped(serve, service):
    json = '[{"name": "a", "addresses": [' + ",".join(['{"city": 1}'] * 500) + "]}]"
    failure = call(serve(service), "Greet", request(json))
    bad = error_details_pb2.BadRequest()
    assert failure.details[0].Unpack(bad)
    assert len(bad.field_violations) == 16
    assert "(and 499 more)" in failure.message


def test_a_stream_with_bad_arguments_fails_like_a_call(serve, service):
    failure = call(serve(service), "StreamOf", request('["no user"]'))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    bad = error_details_pb2.BadRequest()
    assert failure.details[0].Unpack(bad)
    assert [violation.field for violation in bad.field_violations] == ["user"]


def test_a_request_beyond_the_limit_is_refused(serve, service):
    served = serve(service, limits=Limits(request_bytes=1000))
    assert call(served, "Greet", request('"' + "x" * 2000 + '"')).code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert call(served, "StreamOf", request('"' + "x" * 2000 + '"')).code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert served.client.greet(User(name="a", addresses=[]), 2) == "aa"


def test_a_server_survives_all_of_it(serve, service):
    served = serve(service)
    for name in ("Greet", "StreamOf", "Nothing"):
        for sent in (b"\xff", b"", request("[1, 2, 3]"), request('{"__class__": 1}')):
            call(served, name, sent)
    assert served.client.greet(User(name="a", addresses=[])) == "a"


def test_a_caller_that_expects_a_stream_of_a_function_gets_one_item(serve, service):
    served = serve(service)
    sent = request('[{"name": "a", "addresses": []}]')
    (reply,) = served.channel.unary_stream("/errors.v1.ErrorsService/Greet")(sent, timeout=10)
    assert Payload.FromString(reply).json == '"a"'


def test_no_server_at_all_is_unavailable():
    with (
        connect_sync("127.0.0.1:1", "errors.v1.ErrorsService", timeout=10) as client,
        pytest.raises(CallError) as caught,
    ):
        client.greet()
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE

import copy
import logging
import pickle
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo
from pydantic import BaseModel

from ephaptic_grpc import CallError, Service, ServiceError
from ephaptic_grpc.errors import status_of

NOT_FOUND = grpc.StatusCode.NOT_FOUND


class NoSuchUserError(ServiceError):
    def __init__(self, ident: int) -> None:
        super().__init__(NOT_FOUND, f"no user {ident}", {"ident": ident})
        self.ident = ident


class User(BaseModel):
    name: str


class Reply(grpc.RpcError):
    """A failed call as grpc raises it."""

    def __init__(self, status: Any) -> None:
        self.code = lambda: status.code
        self.details = lambda: status.message
        self.trailing_metadata = lambda: status.trailing_metadata


def as_told(error: BaseException) -> CallError:
    return CallError.of(Reply(status_of(error, "/a.A/F")))


def test_ok_is_no_error():
    with pytest.raises(ValueError, match="return a value instead"):
        ServiceError(grpc.StatusCode.OK)


@pytest.mark.parametrize("code", [5, "NOT_FOUND", None])
def test_a_code_is_one_of_grpcs_own(code):
    with pytest.raises(TypeError, match=r"such as grpc\.StatusCode\.NOT_FOUND"):
        ServiceError(code)


def test_it_says_its_code_and_message():
    assert str(ServiceError(NOT_FOUND, "no such user")) == "NOT_FOUND: no such user"
    assert str(ServiceError(NOT_FOUND)) == "NOT_FOUND"


@pytest.mark.parametrize(
    "error",
    [
        ServiceError(NOT_FOUND),
        ServiceError(code=NOT_FOUND, message="by name", details=[1, 2]),
        ServiceError(NOT_FOUND, "a message", ErrorInfo(reason="R")),
        CallError(NOT_FOUND, "no", {"a": 1}),
        NoSuchUserError(3),
    ],
    ids=str,
)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_it_can_be_copied_and_pickled(error, duplicate):
    other = duplicate(error)
    assert type(other) is type(error)
    assert vars(other) == vars(error)
    assert str(other) == str(error)


@pytest.mark.parametrize(
    ("details", "arrive"),
    [
        ((), ()),
        ([], ()),
        (None, ()),
        ({"id": 7, "tags": ["a", None]}, ({"id": 7, "tags": ["a", None]},)),
        ("text", ("text",)),
        (0, (0,)),
        ([1, 2], (1, 2)),
        (User(name="Ada"), ({"name": "Ada"},)),
        (b"\xff", ("_w==",)),
        (float("nan"), (None,)),  # as in every other JSON
        (ErrorInfo(reason="R", metadata={"a": "b"}), (ErrorInfo(reason="R", metadata={"a": "b"}),)),
        ([ErrorInfo(reason="R"), {"b": 1}], (ErrorInfo(reason="R"), {"b": 1})),
    ],
)
def test_details_arrive(details, arrive):
    assert as_told(ServiceError(NOT_FOUND, "x", details)).details == arrive


def test_a_message_that_the_client_does_not_know_arrives_packed():
    (detail,) = as_told(ServiceError(NOT_FOUND, "x", Duration(seconds=3))).details
    assert isinstance(detail, AnyMessage)
    assert detail.type_url.endswith("google.protobuf.Duration")


@pytest.mark.parametrize(
    ("details", "why"),
    [
        ("y" * 3000, "bytes were left out (at most 2048)"),
        (object(), "could not be sent"),
        ("\ud800", "could not be sent"),
    ],
    ids=["too large", "no JSON", "no UTF-8"],
)
def test_details_that_cannot_be_sent_are_left_out_and_logged(details, why, caplog):
    error = as_told(ServiceError(NOT_FOUND, "still said", details))
    assert (error.code, error.message, error.details) == (NOT_FOUND, "still said", ())
    assert why in caplog.text


@pytest.mark.parametrize("garbage", [b"\xff\xff", b"", b"\x1a\x02\xff\xff"])
def test_details_of_a_stranger_that_are_garbage_are_ignored(garbage):
    status = status_of(ServiceError(NOT_FOUND, "x"), "/a.A/F")._replace(
        trailing_metadata=(("grpc-status-details-bin", garbage),)
    )
    assert CallError.of(Reply(status)).details == ()


@pytest.mark.parametrize("message", ["é" * 20_000, "日" * 20_000, "x" * 1025])
def test_a_long_message_is_cut_at_a_character(message):
    cut = as_told(ServiceError(NOT_FOUND, message)).message
    assert len(cut.encode()) <= 1024
    assert cut.endswith("…")
    assert message.startswith(cut[:-1])


def test_a_message_that_utf8_cannot_carry_is_mended():
    assert as_told(ServiceError(NOT_FOUND, "a\ud800b")).message == "a?b"


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")

    __repr__ = __str__


@pytest.mark.parametrize(
    "error",
    [
        ValueError("password=hunter2"),
        CallError(NOT_FOUND, "hunter2 of another service", {"secret": "hunter2"}),
        UnspeakableError(),
        SystemExit("hunter2"),
        KeyboardInterrupt(),
        ExceptionGroup("hunter2", [ServiceError(NOT_FOUND, "hunter2"), ValueError()]),
    ],
    ids=lambda e: type(e).__name__,
)
def test_anything_else_is_internal_with_an_id_that_the_log_has_too(error, caplog):
    with caplog.at_level(logging.ERROR, "ephaptic_grpc"):
        told = as_told(error)
    assert told.code is grpc.StatusCode.INTERNAL
    assert "hunter2" not in told.message
    assert told.details == ()
    (record,) = caplog.records
    error_id = told.message.partition("error id ")[2].rstrip(")")
    assert len(error_id) == 16
    assert error_id in record.getMessage()
    assert record.getMessage().startswith("/a.A/F failed")
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def failing(service, error):
    @service.expose
    def value() -> int:
        raise error

    @service.expose
    async def items():
        yield 1
        raise error


@pytest.mark.parametrize(
    ("message", "arrives"),
    [
        ("line\nbreak\r\n\ttab\x00nul", None),
        ("größe 日本 𝄞 100%41", None),
        ("é" * 20_000, "é" * 510 + "…"),
        ("a\ud800b", "a?b"),
        ("", None),
    ],
    ids=["control characters", "non-ASCII", "40 KB", "no UTF-8", "empty"],
)
def test_a_status_crosses_the_wire(serve, message, arrives):
    service = Service("err.v1.ErrService")
    failing(service, ServiceError(grpc.StatusCode.DATA_LOSS, message, {"k": "v" * 1500}))
    client = serve(service).client
    with pytest.raises(CallError) as caught:
        client.value()
    stream = client.items()
    assert next(stream) == 1
    with pytest.raises(CallError) as caught_later:
        next(stream)
    for error in (caught.value, caught_later.value):
        assert error.code is grpc.StatusCode.DATA_LOSS
        assert error.message == (message if arrives is None else arrives)
        assert error.details == ({"k": "v" * 1500},)


def test_what_a_task_of_a_task_group_meant_is_told():
    error = ExceptionGroup("one", [ExceptionGroup("two", [ServiceError(NOT_FOUND, "no such user")])])
    assert str(as_told(error)) == "NOT_FOUND: no such user"


class ForgotInitError(ServiceError):
    def __init__(self) -> None:
        self.mine = "hunter2"


def with_code_ok() -> ServiceError:
    error = ServiceError(NOT_FOUND, "hunter2")
    error.code = grpc.StatusCode.OK
    return error


@pytest.mark.parametrize("error", [ForgotInitError(), with_code_ok(), ServiceError(NOT_FOUND, UnspeakableError())])
def test_an_error_that_cannot_be_read_is_internal(error, caplog):
    told = as_told(error)
    assert told.code is grpc.StatusCode.INTERNAL
    assert "hunter2" not in told.message
    assert told.message.partition("error id ")[2].rstrip(")") in caplog.text

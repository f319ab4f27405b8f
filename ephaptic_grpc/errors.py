"""What goes wrong, and the one place where an exception becomes a gRPC status.

    TypeError
      ExposeError           a function that can't be exposed: raised where it is exposed
    Exception
      ServiceError          raised by a function: its code, message and details are sent to the caller
        BadArgumentsError   raised in place of calling a function
        TooLargeError       raised in place of sending what it gave
        CallError           raised by a client: what came back instead of a value

Nothing else that a function raises is told to the caller: it is logged under an id, and the caller gets the id.
"""

import copyreg
import logging
import secrets
from collections.abc import Iterable
from typing import NamedTuple, Self, TypeGuard, cast

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status as StatusMessage
from pydantic_core import from_json, to_json

from ephaptic_grpc.limits import STATUS_DETAILS_BYTES, STATUS_MESSAGE_BYTES
from ephaptic_grpc.v1.payload_pb2 import Payload

logger = logging.getLogger("ephaptic_grpc")

DOMAIN = "ephaptic_grpc"
"""That of the reasons in our own ``google.rpc.ErrorInfo``."""

_DETAILS_KEY = "grpc-status-details-bin"
_TYPE_URL = "type.googleapis.com/"
_CONTRACT_CHANGED = "CONTRACT_CHANGED"

_NO_METHOD = ("Method not found!", "Method not found")
"""What servers of gRPC's own say of a path that they don't know. A function chooses its words."""

_KNOWN_DETAILS: dict[str, type[Message]] = {
    descriptor.full_name: getattr(error_details_pb2, name)
    for name, descriptor in error_details_pb2.DESCRIPTOR.message_types_by_name.items()
}


class ExposeError(TypeError):
    """A function that can't be exposed. The message says which one, why, and what to do."""


class ServiceError(Exception):
    """What a function raises to give its caller a gRPC status.

    Args:
        code: any code but OK.
        message: sent to the caller; cut beyond 1,024 bytes of UTF-8.
        details: more about it, for programs: a value that Pydantic can put into JSON, a protobuf message
            (of ``google.rpc.error_details_pb2``, say), or a list of them; together at most 2,048 bytes,
            else they are left out and the server logs it.

    Raises:
        TypeError: ``code`` isn't a ``grpc.StatusCode``.
        ValueError: ``code`` is OK, which is no error.
    """

    def __init__(self, code: grpc.StatusCode, message: str = "", details: object = ()) -> None:
        if not isinstance(code, grpc.StatusCode):
            raise TypeError(f"code must be a grpc.StatusCode, such as grpc.StatusCode.NOT_FOUND, not {code!r}")
        if code is grpc.StatusCode.OK:
            raise ValueError("OK is no error: return a value instead")
        super().__init__(code, message, details)
        self.code = code
        self.message = message
        self.details: tuple[object, ...] = (
            tuple(details) if _is_several(details) else () if details is None else (details,)
        )

    def __reduce__(self) -> tuple[object, ...]:
        # Not by __init__, as exceptions are copied otherwise: that of a subclass can take other arguments.
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}" if self.message else self.code.name


def _is_several(details: object) -> TypeGuard[Iterable[object]]:
    return type(details) in (list, tuple)  # and no NamedTuple, which is one


class BadArgumentsError(ServiceError):
    """INVALID_ARGUMENT: the arguments of a call don't fit."""

    def __init__(self, message: str, details: object = ()) -> None:
        super().__init__(grpc.StatusCode.INVALID_ARGUMENT, message, details)

    def under(self, theirs: str, ours: str) -> "BadArgumentsError":
        """The error for a caller that was generated from a contract: with a note where that isn't ours.

        Args:
            theirs: the hash of the contract that the caller knows.
            ours: that of the contract which the server has.
        """
        if theirs == ours:
            return self
        hashes = {"client": theirs[: len(ours)], "server": ours}
        changed = error_details_pb2.ErrorInfo(reason=_CONTRACT_CHANGED, domain=DOMAIN, metadata=hashes)
        return BadArgumentsError(self.message, [*self.details, changed])


class TooLargeError(ServiceError):
    """RESOURCE_EXHAUSTED: what a function gave is too large to be sent. It is logged as well.

    Args:
        size: bytes of JSON that it has.
        most: bytes that it may have.
    """

    def __init__(self, size: int, most: int) -> None:
        super().__init__(grpc.StatusCode.RESOURCE_EXHAUSTED, f"the reply has {size} bytes of JSON, and may have {most}")


class CallError(ServiceError):
    """A call that failed, as its client sees it.

    Attributes:
        code: the status, a ``grpc.StatusCode``.
        message: the server's words, or gRPC's own where no server was reached.
        details: a tuple of what the server added: JSON values as Python data, messages of
            ``google.rpc.error_details_pb2`` (bad arguments are a ``BadRequest``), and anything else as a
            ``google.protobuf.any_pb2.Any``.

    One that escapes from a function on a server is INTERNAL there: another service's errors are not relayed.
    """

    _gone = False

    @property
    def stale(self) -> bool:
        """Whether the call failed since the server's contract isn't the one that this (generated) client was made from:
        its arguments were refused, or its function isn't there. Generate it again.
        """
        return self._gone or any(
            isinstance(it, error_details_pb2.ErrorInfo) and it.reason == _CONTRACT_CHANGED for it in self.details
        )

    def __str__(self) -> str:
        hint = "; the contract has changed since this client was generated: generate it again" if self.stale else ""
        return super().__str__() + hint

    @classmethod
    def of(cls, error: grpc.RpcError, path: str = "", *, generated: bool = False) -> Self:
        """The CallError of what grpc raised, from its asyncio or its synchronous side.

        Args:
            error: what it raised.
            path: what was called.
            generated: whether by a client that was generated when the function was there.
        """
        if error.code() is grpc.StatusCode.UNIMPLEMENTED and error.details() in _NO_METHOD:
            missing = cls(error.code(), f"the server has no {path.removeprefix('/')}")
            missing._gone = generated
            return missing
        trailing = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
        return cls(error.code(), error.details() or "", _read_details(trailing))


class Status(NamedTuple):
    """A failure as gRPC sends it."""

    code: grpc.StatusCode
    message: str
    trailing_metadata: tuple[tuple[str, bytes], ...]


def status_of(error: BaseException, path: str) -> Status:
    """The status that tells the caller of ``path`` about ``error``, which is logged unless its author meant it."""
    try:
        status = _meant_status(error, path)
    except BaseException as unreadable:  # a subclass that forgot super().__init__(), say
        log_error(unreadable, "%s raised an error that can't be sent", path)
        status = None
    if status is not None:
        return status
    error_id = secrets.token_hex(8)
    log_error(error, "%s failed (error id %s)", path, error_id)
    return Status(grpc.StatusCode.INTERNAL, f"internal error (error id {error_id})", ())


def log_error(error: BaseException, message: str, *arguments: object) -> None:
    """Log an error with its traceback, or without one where the error's own code fails when it is shown.

    An error that comes out of here would go to the caller, in gRPC's words.
    """
    try:
        logger.error(message, *arguments, exc_info=error)
    except BaseException:  # RecursionError, of exception groups that are 1,000 deep; or whatever a property raises
        logger.error(f"{message}; the error can't be shown", *arguments)


def _meant_status(error: BaseException, path: str) -> Status | None:
    """The status that the author of a function chose, or None where it was not chosen."""
    meant = error
    while isinstance(meant, BaseExceptionGroup) and len(meant.exceptions) == 1:
        meant = meant.exceptions[0]  # a task group wraps what one of its tasks raised
    if not isinstance(meant, ServiceError) or isinstance(meant, CallError):
        return None
    if not isinstance(meant.code, grpc.StatusCode) or meant.code.value[0] == 0:
        raise TypeError(f"the code of a ServiceError can't be {meant.code!r}")
    message = cut(meant.message, STATUS_MESSAGE_BYTES)
    if isinstance(meant, TooLargeError):
        logger.error("%s failed: %s", path, message)
    return Status(meant.code, message, _pack_details(meant, message, path))


def cut(text: str, size: int) -> str:
    """At most ``size`` bytes of ``text``, as text that UTF-8 can carry."""
    data = str(text).encode("utf-8", "replace")
    return data.decode() if len(data) <= size else data[: size - 3].decode("utf-8", "ignore") + "…"


def _pack_details(error: ServiceError, message: str, path: str) -> tuple[tuple[str, bytes], ...]:
    if not error.details:
        return ()
    try:
        details = [_pack(detail) for detail in error.details]
    except Exception as unfit:
        log_error(unfit, "%s: the details of %s could not be sent", path, error.code.name)
        return ()
    size = sum(detail.ByteSize() for detail in details)
    if size > STATUS_DETAILS_BYTES:
        logger.error("%s: details of %d bytes were left out (at most %d)", path, size, STATUS_DETAILS_BYTES)
        return ()
    status = StatusMessage(code=error.code.value[0], message=message, details=details)
    return ((_DETAILS_KEY, status.SerializeToString()),)


def _pack(detail: object) -> AnyMessage:
    message = detail if isinstance(detail, Message) else Payload(json=_json(detail))
    return AnyMessage(type_url=_TYPE_URL + message.DESCRIPTOR.full_name, value=message.SerializeToString())


def _json(detail: object) -> str:
    return to_json(detail, bytes_mode="base64", inf_nan_mode="null").decode()


def _read_details(trailing_metadata: Iterable[tuple[str, str | bytes]]) -> tuple[object, ...]:
    status = StatusMessage()
    for key, value in trailing_metadata:
        if key == _DETAILS_KEY:
            try:
                status.ParseFromString(value if isinstance(value, bytes) else value.encode())
                return tuple(_unpack(detail) for detail in status.details)
            except (DecodeError, ValueError):
                return ()  # a stranger's details: the code and the message still say what happened
    return ()


def _unpack(detail: AnyMessage) -> object:
    name = detail.type_url.rpartition("/")[2]
    if name == Payload.DESCRIPTOR.full_name:
        return from_json(Payload.FromString(detail.value).json)
    known = _KNOWN_DETAILS.get(name)
    return known.FromString(detail.value) if known else detail

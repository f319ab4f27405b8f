"""How a call looks over HTTP, as gRPC-Web or as plain JSON: from bodies to arguments, from values to bodies.

Without input or output: what reads requests and sends answers is ``exchange``'s business.
"""

from base64 import b64encode
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, Protocol

import grpc
from google.protobuf.json_format import MessageToDict
from google.rpc.status_pb2 import Status as StatusMessage
from pydantic_core import from_json, to_json

from ephaptic_grpc.errors import ServiceError, Status
from ephaptic_grpc.grpc_web import (
    COMPRESSED,
    FRAME_BYTES,
    MESSAGE,
    Frames,
    FrameTooLargeError,
    MalformedFrameError,
    frame,
    status_headers,
    trailers,
)
from ephaptic_grpc.limits import ENVELOPE_BYTES, EVENT_HEARTBEAT_SECONDS
from ephaptic_grpc.payload import Delivery, arguments, pack, request_too_large
from ephaptic_grpc.v1.payload_pb2 import Payload

Headers = list[tuple[bytes, bytes]]
Metadata = Iterable[tuple[str, str | bytes]]

HTTP_STATUSES: Final = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}
"""The HTTP statuses of ``google.rpc.Code``."""

_NOT_GUESSED: Final = (b"x-content-type-options", b"nosniff")
_UNBUFFERED: Final = (b"x-accel-buffering", b"no")
"""Without it nginx holds the items of a stream back."""

_VALUE_TYPE: Final = "type.googleapis.com/google.protobuf.Value"
_PAYLOAD: Final = "/" + Payload.DESCRIPTOR.full_name


class Answer(NamedTuple):
    """A whole HTTP answer."""

    status: int
    headers: Headers
    body: bytes


class Face(Protocol):
    """One way in which calls look.

    Attributes:
        head: the headers of a stream that has begun.
        end: what ends the body of a stream that went well.
    """

    @property
    def head(self) -> Headers: ...
    @property
    def end(self) -> bytes: ...

    def largest(self, most: int) -> int:
        """The bytes of the largest body whose arguments have so many bytes of JSON."""
        ...

    def arguments(self, body: bytes, most: int) -> bytes:
        """The JSON of the arguments in a whole body, which have so many bytes at most.

        Raises:
            ServiceError: INVALID_ARGUMENT, it is no request; RESOURCE_EXHAUSTED, the arguments are larger.
        """
        ...

    def delivery(self, metadata: Metadata) -> Delivery:
        """How the items of a stream are wanted."""
        ...

    def value(self, json: bytes) -> Answer:
        """The answer of a function that gives one value."""
        ...

    def items(self, *json: bytes) -> bytes:
        """Items of a stream; an empty one breaks its silence."""
        ...

    def failed(self, status: Status) -> Answer:
        """The answer of a call that failed before its first item."""
        ...

    def broken(self, status: Status) -> bytes:
        """What ends the body of a stream that failed later."""
        ...


class GrpcWeb:
    """gRPC-Web: binary, or as text."""

    def __init__(self, *, text: bool = False) -> None:
        self._text = text
        content_type = b"application/grpc-web-text+proto" if text else b"application/grpc-web+proto"
        self._whole: Final[Headers] = [(b"content-type", content_type)]
        self.head: Final[Headers] = [*self._whole, _UNBUFFERED]
        self.end: Final = self._encoded(trailers(None))

    def largest(self, most: int) -> int:
        most += ENVELOPE_BYTES + FRAME_BYTES
        return 4 * most if self._text else most  # a byte takes four where each piece is padded

    def arguments(self, body: bytes, most: int) -> bytes:
        reading = Frames(most + ENVELOPE_BYTES, text=self._text)
        try:
            frames = reading.feed(body)
        except FrameTooLargeError:
            raise request_too_large(most) from None
        except MalformedFrameError as error:
            raise ServiceError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
        if len(frames) > 1:
            raise ServiceError(grpc.StatusCode.INVALID_ARGUMENT, "a request is one message, not several")
        if not frames or not reading.complete:
            raise ServiceError(grpc.StatusCode.INVALID_ARGUMENT, "the request ended before its message did")
        flag, message = frames[0]
        if flag == COMPRESSED:
            raise ServiceError(grpc.StatusCode.UNIMPLEMENTED, "compressed messages are not read here")
        if flag != MESSAGE:
            raise ServiceError(grpc.StatusCode.INVALID_ARGUMENT, "a request is a message, not a frame of another kind")
        return arguments(message, most)

    def delivery(self, metadata: Metadata) -> Delivery:
        return Delivery.asked(metadata)

    def value(self, json: bytes) -> Answer:
        body = self._encoded(frame(pack(json))) + self.end
        return Answer(200, [*self._whole, (b"content-length", b"%d" % len(body))], body)

    def items(self, *json: bytes) -> bytes:
        return self._encoded(frame(pack(*json)))

    def failed(self, status: Status) -> Answer:
        return Answer(200, [*self._whole, *status_headers(status), (b"content-length", b"0")], b"")

    def broken(self, status: Status) -> bytes:
        return self._encoded(trailers(status))

    def _encoded(self, data: bytes) -> bytes:
        return b64encode(data) if self._text else data


class Json:
    """Plain JSON: a value; or a stream as JSON Lines, whose last line is `` {"error": ...}`` where it failed.

    That line begins with a space, which no item does: JSON that Pydantic writes has none there. The body is ended well
    all the same. If it were cut off, which is how HTTP itself says that something went wrong, a page that hasn't read
    the last items yet would never see them, nor why the stream failed: ``fetch`` throws away what it holds.
    """

    head: Headers = [(b"content-type", b"application/jsonl"), _NOT_GUESSED, _UNBUFFERED]  # noqa: RUF012
    end = b""
    _whole: Final[Headers] = [(b"content-type", b"application/json"), _NOT_GUESSED]

    def largest(self, most: int) -> int:
        return most

    def arguments(self, body: bytes, most: int) -> bytes:  # noqa: ARG002
        return body

    def delivery(self, metadata: Metadata) -> Delivery:
        return Delivery.asked(metadata)._replace(batches=True, early=False)  # what fails soon has an HTTP status

    def value(self, json: bytes) -> Answer:
        return Answer(200, [*self._whole, (b"content-length", b"%d" % len(json))], json)

    def items(self, *json: bytes) -> bytes:
        return b"\n".join((*json, b""))

    def failed(self, status: Status) -> Answer:
        return self.value(status_json(status))._replace(status=HTTP_STATUSES[status.code])

    def broken(self, status: Status) -> bytes:
        return b' {"error":%b}\n' % status_json(status)


class EventStream(Json):
    """Server-Sent Events, numbered from 1; an event ``error`` where it failed. Each stream has one of its own."""

    head: Headers = [  # noqa: RUF012
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        _UNBUFFERED,
    ]

    def __init__(self) -> None:
        self._count = 0

    def delivery(self, metadata: Metadata) -> Delivery:
        asked = super().delivery(metadata)
        return asked if asked.heartbeat is not None else asked._replace(heartbeat=EVENT_HEARTBEAT_SECONDS)

    def items(self, *json: bytes) -> bytes:
        if json == (b"",):
            return b":\n\n"
        first = self._count + 1
        self._count += len(json)
        return b"".join([b"id: %d\ndata: %b\n\n" % numbered for numbered in enumerate(json, first)])

    def broken(self, status: Status) -> bytes:
        return b"event: error\ndata: %b\n\n" % status_json(status)


GRPC_WEB: Final = GrpcWeb()
GRPC_WEB_TEXT: Final = GrpcWeb(text=True)
JSON: Final = Json()


def status_json(status: Status) -> bytes:
    """A status as the JSON of ``google.rpc.Status``."""
    message = StatusMessage(code=status.code.value[0], message=status.message)
    for _, packed in status.trailing_metadata:  # there is one at most, which has it all
        message.ParseFromString(packed)
    told: dict[str, Any] = {"code": message.code, "message": message.message}
    if message.details:
        told["details"] = [_detail(detail) for detail in message.details]
    return to_json(told)


def _detail(detail: Any) -> dict[str, Any]:
    if detail.type_url.endswith(_PAYLOAD):  # what the author of a function gave as Python data
        return {"@type": _VALUE_TYPE, "value": from_json(Payload.FromString(detail.value).json)}
    try:
        return MessageToDict(detail)
    except TypeError:  # a message of a type that isn't known here
        return {"@type": detail.type_url, "value": b64encode(detail.value).decode()}

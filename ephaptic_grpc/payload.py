"""The wire: JSON values to and from the bytes of ``ephaptic_grpc.v1.Payload``, and metadata that has a meaning.

The message that is read and written here has the fields of the generated one, as bytes instead of strings: the same
bytes on the wire, and JSON stays the bytes that Pydantic reads and writes.
"""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol, Self, cast

import grpc
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from ephaptic_grpc.errors import ServiceError
from ephaptic_grpc.limits import HEARTBEAT_MILLISECONDS
from ephaptic_grpc.v1 import payload_pb2

KIND_ASKED: Final = ("ephaptic-kind", "?")
"""Sent by a client that doesn't know whether a function streams."""

KIND_STREAM: Final = ("ephaptic-kind", "stream")
"""The answer, as initial metadata: sent at once by a function that streams, and never by another."""

CONTRACT_KEY: Final = "ephaptic-contract"
"""Sent by a generated client: the hash of the contract that a function had when the client was generated."""

BATCH_ASKED: Final = ("ephaptic-batch", "1")
"""Sent by a client that takes several items in one message."""

HEARTBEAT_KEY: Final = "ephaptic-heartbeat"
"""Sent with a number of milliseconds by a caller that wants an empty message after so much silence in a stream."""

_MILLISECONDS: Final = re.compile(r"[0-9]{1,9}")


class Delivery(NamedTuple):
    """How the caller of a stream wants it.

    Attributes:
        batches: it takes several items in one message.
        heartbeat: seconds of silence after which it wants an empty message; None for none.
        early: it wants one early as well, to know from then on what silence means: after the first item, or after the
            shortest silence before it.
    """

    batches: bool = False
    heartbeat: float | None = None
    early: bool = False

    @classmethod
    def asked(cls, metadata: Iterable[tuple[str, str | bytes]]) -> Self:
        """What a call's metadata ask for.

        Raises:
            ServiceError: INVALID_ARGUMENT, a heartbeat that is no number.
        """
        heartbeat = None
        batches = False
        for pair in metadata:
            if pair == BATCH_ASKED:
                batches = True
            elif pair[0] == HEARTBEAT_KEY:
                heartbeat = max(_milliseconds(pair[1]), HEARTBEAT_MILLISECONDS) / 1000
        return cls(batches, heartbeat, heartbeat is not None)


PLAIN: Final = Delivery()
"""A message for each item, and no other."""


def _milliseconds(value: str | bytes) -> int:
    if not isinstance(value, str) or not _MILLISECONDS.fullmatch(value):
        raise ServiceError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"the metadata {HEARTBEAT_KEY!r} is a whole number of milliseconds, of at most nine digits",
        )
    return int(value)


class _BytesPayload(Protocol):
    content_type: bytes
    json: bytes
    more: list[bytes]

    def __call__(self, *, json: bytes, more: Iterable[bytes]) -> "_BytesPayload": ...
    def SerializeToString(self) -> bytes: ...  # noqa: N802  protobuf's own names
    def FromString(self, data: bytes) -> "_BytesPayload": ...  # noqa: N802


def _with_bytes() -> _BytesPayload:
    file = FileDescriptorProto()
    payload_pb2.DESCRIPTOR.CopyToProto(file)
    for field in file.message_type[0].field:
        field.type = FieldDescriptorProto.TYPE_BYTES
    pool = DescriptorPool()  # a pool of its own: in the default one the name is taken
    pool.Add(file)
    return cast("_BytesPayload", GetMessageClass(pool.FindMessageTypeByName("ephaptic_grpc.v1.Payload")))


_Payload = _with_bytes()
_parse = _Payload.FromString


class MalformedPayloadError(ValueError):
    """Bytes that are no Payload, or one that means nothing here. The message says why, without the content."""


def _head(size: int) -> bytes:
    """What stands before a `json` of so many bytes: the field's tag, and the size as a varint."""
    if size < 0x80:
        return b"\x12%c" % size
    if size < 0x4000:
        return b"\x12%c%c" % (0x80 | size & 0x7F, size >> 7)
    head = bytearray(b"\x12")
    while size >= 0x80:
        head.append(0x80 | size & 0x7F)
        size >>= 7
    return bytes(head) + b"%c" % size


def pack(json: bytes = b"", *more: bytes) -> bytes:
    """The message that carries the arguments of a call, one JSON value, or several to a caller that accepts batches.

    With nothing in it, it is the one that breaks the silence of a stream.
    """
    if more:
        return _Payload(json=json, more=more).SerializeToString()
    return _head(len(json)) + json if json else b""


def unpack(message: bytes) -> bytes:
    """The JSON in a message; empty where it holds none.

    Raises:
        MalformedPayloadError: not a Payload, another content type than JSON, or a batch where one value is expected.
    """
    json = _json_alone(message)
    if json is not None:
        return json
    payload = _read(message)
    if payload.more:
        raise MalformedPayloadError("a Payload has 'more' only in a stream, for callers that asked for batches")
    return payload.json


def arguments(message: bytes, most: int) -> bytes:
    """The JSON of the arguments in a request, which has ``most`` bytes at most.

    Raises:
        ServiceError: INVALID_ARGUMENT, the message is none; RESOURCE_EXHAUSTED, it has more.
    """
    try:
        json = unpack(message)
    except MalformedPayloadError as error:
        raise ServiceError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
    if len(json) > most:
        raise request_too_large(most)
    return json


def request_too_large(most: int) -> ServiceError:
    """What a caller is told whose arguments have more bytes of JSON than a function takes."""
    return ServiceError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"the arguments have more than {most} bytes of JSON")


def unpack_items(message: bytes) -> list[bytes]:
    """The JSON of each item in a message of a stream; of one, empty, in a message that only breaks the silence.

    Raises:
        MalformedPayloadError: not a Payload, or another content type than JSON.
    """
    json = _json_alone(message)
    if json is not None:
        return [json]
    payload = _read(message)
    return [payload.json, *payload.more]


def _json_alone(message: bytes) -> bytes | None:
    # Nearly every message is `json` alone, after its tag and its size in one byte or two: comparing beats parsing.
    size = len(message) - (2 if len(message) < 0x83 else 3)
    if size >= 0:
        head = _head(size)
        if len(head) + size == len(message) and message.startswith(head):
            return message[len(head) :]
    return None


def _read(message: bytes) -> _BytesPayload:
    try:
        payload = _parse(message)
    except DecodeError:
        raise MalformedPayloadError("the message is not an ephaptic_grpc.v1.Payload") from None
    if payload.content_type and payload.content_type != b"application/json":
        raise MalformedPayloadError("the content_type of a Payload must be empty or 'application/json'")
    return payload

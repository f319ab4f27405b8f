"""The gRPC-Web envelope: frames, trailers, and how headers write what gRPC means. Without input or output.

A frame is a flag, a length in four bytes, and a payload. The trailers are the last frame of an answer, in the format of
headers, since pages can't read HTTP's own. In text mode everything is base64, in pieces that can be padded each.
"""

import binascii
import re
from base64 import b64encode
from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import quote_from_bytes

import grpc

from ephaptic_grpc.errors import ServiceError, Status

MESSAGE: Final = 0x00
COMPRESSED: Final = 0x01
TRAILERS: Final = 0x80

FRAME_BYTES: Final = 5
"""What a frame has before its payload."""

_UNITS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT: Final = re.compile(r"([0-9]{1,8})([HMSmun])")
_PLAIN: Final = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
"""What stands for itself in a status message, besides letters and digits: all printable ASCII but the percent sign."""

_NOT_METADATA: Final = frozenset(
    {
        *("accept", "accept-encoding", "connection", "content-length", "content-type", "expect", "host", "keep-alive"),
        *("te", "trailer", "transfer-encoding", "upgrade"),
        *("grpc-accept-encoding", "grpc-encoding", "grpc-timeout", "x-grpc-web"),
    }
)


class Frame(NamedTuple):
    """One frame: what kind it is, and what is in it."""

    flag: int
    payload: bytes


class MalformedFrameError(ValueError):
    """Bytes that are no frames. The message says why, without the content."""


class FrameTooLargeError(ValueError):
    """A frame with a payload larger than is allowed; found as soon as its length is known."""


class Frames:
    """Reads frames out of bytes that come in pieces, cut anywhere.

    Args:
        most: the largest payload, in bytes.
        text: whether it is the text mode.
    """

    def __init__(self, most: int, *, text: bool = False) -> None:
        self._most = most
        self._text = text
        self._quantum = b""
        self._data = bytearray()

    @property
    def complete(self) -> bool:
        """Whether nothing of a frame is waiting for its rest."""
        return not self._data and not self._quantum

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole now.

        Raises:
            MalformedFrameError: not base64, in text mode.
            FrameTooLargeError: a frame is larger than is allowed.
        """
        if self._text:
            data = self._decoded(data)
        held: bytes | bytearray = data
        if self._data:  # seldom: nearly every request comes in one piece
            self._data += data
            held = self._data
        frames: list[Frame] = []
        at, have = 0, len(held)
        while have - at >= FRAME_BYTES:
            size = int.from_bytes(held[at + 1 : at + FRAME_BYTES])
            if size > self._most:
                raise FrameTooLargeError(f"a message of {size} bytes is more than the {self._most} that are allowed")
            end = at + FRAME_BYTES + size
            if have < end:
                break
            frames.append(Frame(held[at], bytes(held[at + FRAME_BYTES : end])))
            at = end
        if held is self._data:
            del self._data[:at]
        else:
            self._data += held[at:]
        return frames

    def _decoded(self, data: bytes) -> bytes:
        data = self._quantum + data
        whole = len(data) - len(data) % 4
        self._quantum = data[whole:]
        try:
            # Each padded piece alone: decoders stop at the first padding.
            return b"".join(binascii.a2b_base64(piece, strict_mode=True) for piece in _pieces(data[:whole]))
        except binascii.Error:
            raise MalformedFrameError("the body is not base64") from None


def _pieces(data: bytes) -> Iterable[bytes]:
    """Base64 cut behind each padding, at whole quanta."""
    start = 0
    while (padding := data.find(b"=", start)) >= 0:
        end = padding - padding % 4 + 4
        yield data[start:end]
        start = end
    if start < len(data):
        yield data[start:]


def frame(payload: bytes, flag: int = MESSAGE) -> bytes:
    """A payload in its frame."""
    return b"%c%b%b" % (flag, len(payload).to_bytes(4), payload)


def trailers(status: Status | None) -> bytes:
    """The frame that ends an answer: with a failure, or well where there is none."""
    lines = [b"%b:%b\r\n" % pair for pair in status_headers(status)]
    return frame(b"".join(lines), TRAILERS)


def status_headers(status: Status | None) -> list[tuple[bytes, bytes]]:
    """A status as headers, or as the lines of a trailers frame."""
    if status is None:
        return [(b"grpc-status", b"0")]
    headers = [(b"grpc-status", b"%d" % status.code.value[0])]
    if status.message:
        headers.append((b"grpc-message", quote_from_bytes(status.message.encode(), _PLAIN).encode()))
    for key, value in status.trailing_metadata:
        headers.append((key.encode(), b64encode(value).rstrip(b"=")))
    return headers


def timeout_seconds(value: str) -> float:
    """The seconds of a ``grpc-timeout`` such as ``1500m``.

    Raises:
        ServiceError: INVALID_ARGUMENT, it is none.
    """
    found = _TIMEOUT.fullmatch(value)
    if found is None:
        raise ServiceError(
            grpc.StatusCode.INVALID_ARGUMENT,
            "grpc-timeout is a number of at most eight digits and one of H, M, S, m, u, n",
        )
    return int(found[1]) * _UNITS[found[2]]


def metadata(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str | bytes]]:
    """The metadata in the headers of a request: all but those that HTTP and gRPC-Web have for themselves.

    Raises:
        ServiceError: INVALID_ARGUMENT, one that ends in ``-bin`` is not base64.
    """
    found: list[tuple[str, str | bytes]] = []
    for key, value in headers:
        name = key.decode("latin-1").lower()
        if name in _NOT_METADATA:
            continue
        if name.endswith("-bin"):
            found.extend((name, _binary(name, part)) for part in value.split(b","))
        else:
            found.append((name, value.decode("latin-1")))
    return found


def _binary(name: str, value: bytes) -> bytes:
    value = value.strip().rstrip(b"=")
    try:
        return binascii.a2b_base64(value + b"=" * (-len(value) % 4), strict_mode=True)
    except binascii.Error:
        raise ServiceError(grpc.StatusCode.INVALID_ARGUMENT, f"the metadata {name!r} is not base64") from None

"""A client that sends what gRPC's own refuses to send: any bytes as headers, frames in any order."""

import socket
from collections.abc import Iterable
from functools import partial
from typing import Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, Event, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.exceptions import ProtocolError

Header = tuple[bytes, bytes]


class RawHttp2:
    """One connection without TLS.

    Args:
        address: ``host:port``.
    """

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        self.http = H2Connection(
            H2Configuration(
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
                validate_inbound_headers=False,
            )
        )
        self.http.encoder.encode = partial(self.http.encoder.encode, huffman=False)  # which takes its time in Python
        self.http.initiate_connection()
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def flush(self) -> None:
        self.pour([self.http.data_to_send()])

    def pour(self, frames: Iterable[bytes]) -> bool:
        """Send these as they are. Whether all were taken: a server may hang up, and how soon it does is chance."""
        try:
            for data in frames:
                self.socket.sendall(data)
        except ConnectionError:
            return False
        return True

    def send(self, path: bytes, body: bytes = b"", headers: Iterable[Header] = (), *, end: bool = True) -> int:
        """Begin a call with one message, or with a body of any bytes: the number of its stream."""
        stream = self.http.get_next_available_stream_id()
        given = dict.fromkeys(name for name, _ in headers)
        usual = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path),
            (b":authority", b"localhost"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        ]
        self.http.send_headers(stream, [*(one for one in usual if one[0] not in given), *headers])
        self.http.send_data(stream, body, end_stream=end)
        self.flush()
        return stream

    def call(self, path: bytes, body: bytes = b"", headers: Iterable[Header] = ()) -> dict[bytes, bytes]:
        """The headers and trailers of the answer; of one that never came, ``reset`` or ``gone`` say how it ended."""
        headers = [*headers]
        return self.answer(self.send(path, body, headers))

    def answer(self, stream: int) -> dict[bytes, bytes]:
        got: dict[bytes, bytes] = {}
        while True:
            events = self.receive()
            if events is None:
                return {**got, b"gone": b""}
            for event in events:
                if isinstance(event, ConnectionTerminated):
                    return {**got, b"gone": event.additional_data or b""}
                if getattr(event, "stream_id", None) != stream:
                    continue
                if isinstance(event, ResponseReceived | TrailersReceived):
                    got.update(event.headers)
                elif isinstance(event, StreamReset):
                    return {**got, b"reset": b"%d" % event.error_code}
                elif isinstance(event, StreamEnded):
                    return got

    def receive(self) -> list[Event] | None:
        """What comes next; None where the server has hung up."""
        try:
            data = self.socket.recv(65536)
            events = self.http.receive_data(data)
            self.flush()
        except (ConnectionError, ProtocolError):
            return None
        return events if data else None


def message(payload: bytes) -> bytes:
    """A message in gRPC's frame."""
    return b"\0" + len(payload).to_bytes(4) + payload

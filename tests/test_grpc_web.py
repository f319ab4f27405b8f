"""The envelope, cut and broken in every way."""

from base64 import b64encode

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from web_trailers import read_message, read_trailers

from ephaptic_grpc.errors import ServiceError, Status
from ephaptic_grpc.grpc_web import (
    MESSAGE,
    TRAILERS,
    Frame,
    Frames,
    FrameTooLargeError,
    MalformedFrameError,
    frame,
    metadata,
    timeout_seconds,
    trailers,
)

MOST = 1000
frames = st.lists(st.builds(Frame, st.sampled_from([MESSAGE, TRAILERS, 1, 255]), st.binary(max_size=40)), max_size=6)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """Data in pieces; some can be empty."""
    ends = sorted(position % (len(data) + 1) for position in at)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


def read(pieces: list[bytes], *, text: bool = False) -> tuple[list[Frame], bool]:
    reader = Frames(MOST, text=text)
    found = [one for piece in pieces for one in reader.feed(piece)]
    return found, reader.complete


@given(frames, st.lists(st.integers(min_value=0), max_size=8))
def test_frames_are_read_however_they_are_cut(sent, at):
    data = b"".join(frame(payload, flag) for flag, payload in sent)
    assert read(cut(data, at)) == (sent, True)


@given(frames, st.lists(st.integers(min_value=0), max_size=8), st.lists(st.integers(min_value=0), max_size=8))
def test_text_is_read_with_padding_anywhere_and_cut_inside_a_quantum(sent, padded, at):
    data = b"".join(frame(payload, flag) for flag, payload in sent)
    text = b"".join(b64encode(piece) for piece in cut(data, padded))
    assert read(cut(text, at), text=True) == (sent, True)


@given(st.lists(st.binary(max_size=60), max_size=5), st.booleans())
def test_no_bytes_do_more_than_be_refused(pieces, text):
    try:
        found, complete = read(pieces, text=text)
    except (MalformedFrameError, FrameTooLargeError):
        return
    if not text:
        rest = b"".join(pieces)[sum(5 + len(one.payload) for one in found) :]
        assert complete == (not rest)


@given(st.binary(min_size=1, max_size=100), st.integers(min_value=1))
def test_what_is_cut_short_is_not_complete(payload, missing):
    data = frame(payload)
    found, complete = read([data[: -(missing % len(data)) or 1]])
    assert (found, complete) == ([], False)


def test_a_frame_that_is_too_large_is_refused_by_its_length_alone():
    with pytest.raises(FrameTooLargeError, match="1001 bytes is more than the 1000"):
        Frames(MOST).feed(b"\0" + (MOST + 1).to_bytes(4))
    assert read([frame(b"x" * MOST)])[1]


def test_many_small_pieces_take_linear_time():
    reader = Frames(1 << 20)
    assert next(one for byte in frame(b"x" * 200_000) for one in reader.feed(bytes((byte,)))).flag == MESSAGE


@given(st.text())
def test_a_status_is_the_same_at_the_other_end(message):
    text = message.encode("utf-8", "replace").decode().strip(" ")
    details = (("grpc-status-details-bin", b"\x08\x05\xff"),)
    ((flag, payload),), _ = read([trailers(Status(grpc.StatusCode.NOT_FOUND, text, details))])
    told = read_trailers(payload)
    assert flag == TRAILERS
    assert payload.isascii()
    assert payload.count(b"\n") == 2 + bool(text)
    assert told["grpc-status"] == "5"
    assert read_message(told.get("grpc-message", "")) == text
    assert told["grpc-status-details-bin"] == "CAX/"


def test_a_call_that_went_well():
    assert trailers(None) == b"\x80\0\0\0\x0fgrpc-status:0\r\n"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1H", 3600), ("2M", 120), ("3S", 3), ("1500m", 1.5), ("7u", 7e-6), ("99999999n", 0.099999999), ("0S", 0)],
)
def test_timeouts(text, seconds):
    assert timeout_seconds(text) == pytest.approx(seconds)


@given(st.sampled_from(["", "1", "S", "123456789S", "-1S", "1.5S", "1 S", "1s", "١S", "1S\n"]) | st.text(max_size=12))
def test_a_timeout_is_read_or_refused(text):
    try:
        assert 0 <= timeout_seconds(text) < 1e12
    except ServiceError as error:
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        assert "grpc-timeout" in error.message


def test_metadata_are_what_no_protocol_needs():
    headers = [
        (b"host", b"x"),
        (b"content-type", b"application/grpc-web"),
        (b"grpc-timeout", b"1S"),
        (b"authorization", b"Bearer t"),
        (b"x-tenant", b"a"),
        (b"x-tenant", b"\xe9"),
        (b"trace-bin", b"AP8"),
        (b"trace-bin", b"AP8=, /w=="),
    ]
    assert metadata(headers) == [
        ("authorization", "Bearer t"),
        ("x-tenant", "a"),
        ("x-tenant", "é"),
        ("trace-bin", b"\0\xff"),
        ("trace-bin", b"\0\xff"),
        ("trace-bin", b"\xff"),
    ]


@given(st.binary(max_size=20))
def test_binary_metadata_are_read_or_refused(value):
    try:
        assert all(isinstance(found, bytes) for _, found in metadata([(b"x-bin", value)]))
    except ServiceError as error:
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT

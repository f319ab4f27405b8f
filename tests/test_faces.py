"""How calls look: what goes wrong is told in full, and nothing is mistaken for an item."""

import json
from base64 import b64decode

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.rpc.error_details_pb2 import RetryInfo
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json, to_json

from ephaptic_grpc.errors import ServiceError, status_of
from ephaptic_grpc.faces import GRPC_WEB_TEXT, HTTP_STATUSES, JSON, EventStream, status_json
from ephaptic_grpc.grpc_web import Frames
from ephaptic_grpc.payload import Delivery, unpack_items

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(st.lists(json_values, min_size=1, max_size=3), max_size=4))
def test_items_are_read_as_they_were_given(batches):
    texts = [[to_json(value) for value in batch] for batch in batches]
    values = [value for batch in batches for value in batch]
    lines = b"".join(JSON.items(*batch) for batch in texts).split(b"\n")
    assert [from_json(line) for line in lines if line] == values
    assert not any(line.startswith(b" ") for line in lines)  # as the one does that says why a stream failed
    events = EventStream()
    told = b"".join(events.items(*batch) for batch in texts).decode().split("\n\n")[:-1]
    assert [event.partition("\n")[0] for event in told] == [f"id: {number + 1}" for number in range(len(values))]
    assert [from_json(event.partition("\ndata: ")[2]) for event in told] == values
    reader = Frames(1 << 20, text=True)
    frames = reader.feed(b"".join(GRPC_WEB_TEXT.items(*batch) for batch in texts))
    assert [from_json(item) for _, message in frames for item in unpack_items(message)] == values


def test_the_line_that_says_why_a_stream_failed_is_no_item():
    status = status_of(ServiceError(grpc.StatusCode.ABORTED, "enough"), "/path")
    line = JSON.broken(status)
    assert line == b' {"error":{"code":10,"message":"enough"}}\n'
    assert JSON.items(to_json(from_json(line))) == line[1:]


def test_what_breaks_the_silence_is_no_item():
    events = EventStream()
    assert events.items(b"") == b":\n\n"
    assert events.items(b"1") == b"id: 1\ndata: 1\n\n"
    assert JSON.items(b"") == b"\n"


def test_events_have_a_heartbeat_unless_their_reader_wants_another():
    assert EventStream().delivery([]) == Delivery(batches=True, heartbeat=15.0)
    assert EventStream().delivery([("ephaptic-heartbeat", "200")]) == Delivery(batches=True, heartbeat=0.2)
    assert JSON.delivery([]) == Delivery(batches=True)


@pytest.mark.parametrize("code", [*grpc.StatusCode][1:])
def test_every_code_has_its_http_status(code):
    answer = JSON.failed(status_of(ServiceError(code, "said"), "/path"))
    assert answer.status == HTTP_STATUSES[code] >= 400
    assert json.loads(answer.body) == {"code": code.value[0], "message": "said"}


def test_details_are_json_whatever_they_are():
    file = descriptor_pb2.FileDescriptorProto(name="odd.proto", package="odd", syntax="proto3")
    field = file.message_type.add(name="Odd").field.add(name="text", number=1)
    field.type, field.label = field.TYPE_STRING, field.LABEL_OPTIONAL
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    odd = message_factory.GetMessageClass(pool.FindMessageTypeByName("odd.Odd"))(text="x")
    retry = RetryInfo()
    retry.retry_delay.FromMilliseconds(1500)
    error = ServiceError(grpc.StatusCode.UNAVAILABLE, details=[{"id": 7}, retry, odd])
    value, known, unknown = json.loads(status_json(status_of(error, "/path")))["details"]
    assert value == {"@type": "type.googleapis.com/google.protobuf.Value", "value": {"id": 7}}
    assert known == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.500s"}
    assert unknown["@type"] == "type.googleapis.com/odd.Odd"
    assert b64decode(unknown["value"]) == odd.SerializeToString()

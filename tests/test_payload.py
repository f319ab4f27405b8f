import grpc
import pytest
from google.protobuf.message import DecodeError

from ephaptic_grpc.errors import ServiceError
from ephaptic_grpc.payload import Delivery, MalformedPayloadError, pack, unpack, unpack_items
from ephaptic_grpc.v1.payload_pb2 import Payload


@pytest.mark.parametrize("json", ["", "null", "0", '""', '{"a": "é\u2028𝄞"}', "[" + "1," * 100_000 + "1]"])
def test_the_bytes_are_those_of_the_generated_message(json):
    message = Payload(json=json).SerializeToString(deterministic=True)
    assert pack(json.encode()) == message
    assert unpack(message) == json.encode()


@pytest.mark.parametrize("size", [*range(1, 300), *range(16_380, 16_390), 2_097_151, 2_097_152])
@pytest.mark.parametrize("more", [b"", b"\x00", b"x", b"\x0a\x00", b"\x22\x01x", b"\x12\x01y"])
def test_short_ways_lead_to_the_same_place(size, more):
    message = pack(b"x" * size) + more
    try:
        payload = Payload.FromString(message)
    except DecodeError:
        payload = None
    if payload is None or payload.more:
        with pytest.raises(MalformedPayloadError):
            unpack(message)
    else:
        assert unpack(message) == payload.json.encode()


def test_the_field_numbers_are_those_of_http_body():
    fields = {field.name: field.number for field in Payload.DESCRIPTOR.fields}
    assert fields == {"content_type": 1, "json": 2, "more": 4}


def test_an_empty_message_holds_nothing():
    assert unpack(b"") == b""


def test_fields_of_later_versions_are_skipped():
    assert unpack(Payload(json="1").SerializeToString() + b"\x4a\x01x") == b"1"


def test_json_may_say_that_it_is_json():
    assert unpack(Payload(content_type="application/json", json="1").SerializeToString()) == b"1"


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"\xff\xff", "not an ephaptic_grpc.v1.Payload"),
        (b"\x12\x05ab", "not an ephaptic_grpc.v1.Payload"),
        (Payload(content_type="text/secret", json="1").SerializeToString(), "'application/json'"),
        (Payload(json="1", more=["2"]).SerializeToString(), "callers that asked for batches"),
    ],
)
def test_what_means_nothing_is_refused_without_repeating_it(message, why):
    with pytest.raises(MalformedPayloadError, match=why) as caught:
        unpack(message)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("items", [["1"], ['"é"', "null"], ["0", *['"x"', "[1, 2]"] * 200, "x" * 100_000]])
def test_several_items_are_json_and_more(items):
    message = Payload(json=items[0], more=items[1:]).SerializeToString(deterministic=True)
    jsons = [item.encode() for item in items]
    assert pack(*jsons) == message
    assert unpack_items(message) == jsons


def test_a_message_without_an_item_is_empty():
    assert pack() == pack(b"") == b""
    assert unpack_items(b"") == [b""]


@pytest.mark.parametrize("message", [b"\xff\xff", Payload(content_type="text/plain", json="1").SerializeToString()])
def test_what_is_no_item_is_refused(message):
    with pytest.raises(MalformedPayloadError):
        unpack_items(message)


@pytest.mark.parametrize(
    ("metadata", "delivery"),
    [
        ([], Delivery()),
        ([("user-agent", "x"), ("ephaptic-batch", "0"), ("x-bin", b"1")], Delivery()),
        ([("ephaptic-batch", "1"), ("user-agent", "x")], Delivery(batches=True)),
        ([("ephaptic-heartbeat", "15000")], Delivery(heartbeat=15, early=True)),
        ([("ephaptic-batch", "1"), ("ephaptic-heartbeat", "1")], Delivery(batches=True, heartbeat=0.1, early=True)),
        ([("ephaptic-heartbeat", "0")], Delivery(heartbeat=0.1, early=True)),
    ],
)
def test_what_callers_ask_for(metadata, delivery):
    assert Delivery.asked(metadata) == delivery


@pytest.mark.parametrize("value", ["", "-1", "1.5", "1e3", "10s", " 1", "٣", "1" * 10, "nan", "inf", b"100"])
def test_a_heartbeat_that_is_no_number_is_refused(value):
    with pytest.raises(ServiceError, match="'ephaptic-heartbeat' is a whole number of milliseconds") as caught:
        Delivery.asked([("ephaptic-heartbeat", value)])
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT

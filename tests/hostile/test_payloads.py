"""Messages that are made to hurt: each is refused by a defined status, in time that its size explains."""

import gc
import json
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import grpc
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ephaptic_grpc import Service, ServiceError
from ephaptic_grpc.limits import JSON_BYTES, STATUS_DETAILS_BYTES, STATUS_MESSAGE_BYTES
from ephaptic_grpc.payload import MalformedPayloadError, arguments, pack, unpack, unpack_items
from ephaptic_grpc.v1.payload_pb2 import Payload

KIB = 1024
MILLISECONDS_OF_64_KIB = 5
LOADED = 5
"""How much longer things may take where other programs run, too."""


class Login(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = ""
    tries: int = 0

    @model_validator(mode="before")
    @classmethod
    def repeat_it(cls, value: Any) -> Any:
        if isinstance(value, dict) and "echo" in value:
            raise ValueError(f"{value} is no login")
        return value


AnyOf = int | Login | list[int] | Annotated[dict[str, int], Field(max_length=3)] | bool
payloads = Service("payloads.v1.PayloadsService")


@payloads.expose
async def login(login: Login) -> int:
    return 1


@payloads.expose
async def several(value: AnyOf, number: int = 0) -> int:
    return 1


@payloads.expose
async def numbers(values: list[int]) -> int:
    return len(values)


@payloads.expose
async def named(**values: int) -> int:
    return len(values)


@payloads.expose
async def one_of_each(a: int, b: str, c: list[str], d: dict[str, float], e: Login | None = None) -> int:
    return 1


def varint(number: int) -> bytes:
    data = bytearray()
    while number >= 0x80:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])


def field(number: int, wire_type: int, payload: bytes = b"") -> bytes:
    return varint(number << 3 | wire_type) + payload


def text(number: int, data: bytes) -> bytes:
    return field(number, 2, varint(len(data)) + data)


THOUSAND_FIELDS = b"".join(text(100 + number, b"x") for number in range(1000))
GROUPS = b"".join(field(9, 3) for _ in range(1000)) + b"".join(field(9, 4) for _ in range(1000))

REFUSED = {
    "nothing where arguments are needed": b"",
    "deep arrays": pack(b"[" * 100_000),
    "deep objects": pack(b'{"values":' * 100_000),
    "deep and closed": pack(b"[" * 10_000 + b"]" * 10_000),
    "invalid UTF-8": pack(b'{"values":["\xff\xfe"]}'),
    "half a character": pack(b'["\xf0\x9f"]'),
    "overlong UTF-8": pack(b'["\xc0\xaf"]'),
    "an encoded surrogate": pack(b'["\xed\xa0\x80"]'),
    "a lone surrogate": pack(b'["\\ud800"]'),
    "two high surrogates": pack(b'["\\ud800\\ud800"]'),
    "a lone surrogate as a key": pack(b'{"\\udc00":1}'),
    "a BOM": pack(b"\xef\xbb\xbf[[1]]"),
    "UTF-16": pack('[["1"]]'.encode("utf-16")),
    "trailing data": pack(b"[[1]] x"),
    "a second value": pack(b"[[1]][[1]]"),
    "a NUL behind": pack(b"[[1]]\0"),
    "a comment": pack(b"[[1]] // x"),
    "single quotes": pack(b"{'values': [1]}"),
    "a bare control character": pack(b'["\x01"]'),
    "NaN": pack(b"[[NaN]]"),
    "an integer of 5,000 digits": pack(b"[[" + b"9" * 5000 + b"]]"),
    "a huge exponent": pack(b"[[1e999999999]]"),
    "a number that is no whole one": pack(b"[[1.5]]"),
    "truncated": pack(b"[[1]]")[:-1],
    "truncated in its size": b"\x12\xff\xff",
    "a size beyond the message": b"\x12\xff\xff\xff\xff\x0f[[1]]",
    "a negative size": b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    "a varint without an end": b"\x12" + b"\xff" * 20,
    "json as a number": field(2, 0, b"\x01"),
    "json as eight bytes": field(2, 1, b"12345678"),
    "json as a group": field(2, 3) + field(2, 4),
    "the number zero": b"\x02\x00",
    "wire type six": b"\x16\x00",
    "wire type seven": b"\x17\x00",
    "a group that never ends": field(9, 3),
    "a group that never began": field(9, 4),
    "groups in groups": GROUPS + pack(b"[[1]]"),
    "another content type": text(1, b"application/cbor") + pack(b"[[1]]"),
    "a content type in capitals": text(1, b"Application/JSON") + pack(b"[[1]]"),
    "a content type that is no text": text(1, b"\xff") + pack(b"[[1]]"),
    "a batch": pack(b"[[1]]", b"[[2]]"),
}
TAKEN = {
    "a thousand unknown fields": THOUSAND_FIELDS + pack(b"[[1]]"),
    "the last of two": pack(b"[") + pack(b"[[1]]"),
    "duplicate keys, of which the last counts": pack(b'{"values":["x"],"values":[1]}'),
    "white space": pack(b" \r\n\t[ [ 1 ] ]\n"),
}


def outcome(served: Any, message: bytes) -> tuple[str, str]:
    try:
        served.channel.unary_unary(f"/{payloads.name}/Numbers")(message, timeout=20)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK", ""


def test_each_has_its_status(serve, caplog):
    served = serve(payloads)
    outcomes = {name: outcome(served, message) for name, message in {**REFUSED, **TAKEN}.items()}
    assert {name: code for name, (code, _) in outcomes.items()} == {
        **dict.fromkeys(REFUSED, "INVALID_ARGUMENT"),
        **dict.fromkeys(TAKEN, "OK"),
    }
    assert not caplog.records


def test_what_is_small_until_it_is_unpacked_is_refused(serve):
    """A message of 64 MiB in 64 KiB."""
    served = serve(payloads)
    call = served.channel.unary_unary(f"/{payloads.name}/Numbers")
    with pytest.raises(grpc.RpcError) as caught:
        call(pack(b" " * (64 << 20)), compression=grpc.Compression.Gzip, timeout=60)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert served.client.numbers([1]) == 1


# --- how long each takes


KEYED = ',"k#":"v#xxxxxxxx"'

COSTLY: dict[str, tuple[str, str, str, str]] = {
    "what a validator repeats": ("login", '{"login":{"echo":1', KEYED, "}}"),
    "unknown fields": ("login", '{"login":{"x":1', KEYED, "}}"),
    "unknown arguments": ("login", '{"login":{}', KEYED, "}"),
    "a union, of a wide object": ("several", '{"value":{"x":1', KEYED, "}}"),
    "a union, of a list": ("several", '{"value":[1', ',"abcde"', "]}"),
    "a union, of a deep list": ("several", '{"value":' + "[" * 150 + "1", ',"abcde"', "]" * 150 + "}"),
    "wrong numbers": ("numbers", "[[1", ',"x"', "]]"),
    "999 wrong numbers": ("numbers", "[[1" + ',"x"' * 999, ",1", "]]"),
    "numbers as texts": ("numbers", "[[1", ',"12345"', "]]"),
    "long numbers": ("numbers", "[[1", "," + "9" * 4000, "]]"),
    "digits": ("numbers", "[[0.", "9", "]]"),
    "too many arguments": ("numbers", "[[]", ",[]", "]"),
    "a long name": ("named", '{"', "k", '":"x"}'),
    "names": ("named", '{"x":1', ',"k#":"x"', "}"),
    "the same name": ("named", '{"x":1', ',"same":"x"', "}"),
    "escapes": ("login", '{"login":{"tries":"', "\\u00e9", '"}}'),
    "depth": ("several", '{"value":', "[", ""),
    "white space": ("numbers", "", " ", ""),
    "invalid UTF-8": ("numbers", '["', "\udcff", ""),
}
"""The function, and how its JSON begins, goes on for so many bytes, and ends; ``#`` is another number each time."""

COSTLY_MESSAGES: dict[str, Callable[[int], bytes]] = {
    "empty items": lambda size: b"\x22\x00" * (size // 2),
    "unknown numbers": lambda size: b"\x48\x01" * (size // 2),
    "groups": lambda size: (field(9, 3) + field(9, 4)) * (size // 2),
    "the same field": lambda size: pack(b"[]") * (size // 4),
    "a long content type": lambda size: text(1, b"x" * size),
}


def milliseconds(message: bytes, function: str) -> float:
    """What a message takes of the event loop's time, at best: who else runs on the machine is no matter."""
    load = payloads.procedures[function].arguments.load
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        with pytest.raises(ServiceError) as caught:
            load(arguments(message, JSON_BYTES))
            raise ServiceError(grpc.StatusCode.INVALID_ARGUMENT)  # it was taken
        best = min(best, time.process_time() - started)
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    return best * 1000


def cost(name: str, size: int) -> float:
    if name in COSTLY_MESSAGES:
        return milliseconds(COSTLY_MESSAGES[name](size), "numbers")
    function, begin, middle, end = COSTLY[name]
    count = size // len(middle.replace("#", "000000").encode("utf-8", "surrogateescape"))
    json = begin + "".join(middle.replace("#", f"{number:06}") for number in range(count)) + end
    return milliseconds(pack(json.encode("utf-8", "surrogateescape")), function)


@pytest.fixture
def small_heap() -> Iterator[None]:
    """Garbage collection doesn't go through all that other tests have left."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.once
@pytest.mark.usefixtures("small_heap")
@pytest.mark.parametrize("name", [*COSTLY, *COSTLY_MESSAGES])
def test_no_message_costs_more_than_its_size(name):
    small, large = cost(name, 64 * KIB), cost(name, 1024 * KIB)
    print(f"{name}: {small:.2f} ms for 64 KiB, {large:.1f} ms for 1 MiB")
    assert small < MILLISECONDS_OF_64_KIB * LOADED
    assert large < 16 * max(small, 1) * LOADED


# --- whatever it is

fuzzed = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))

pieces = st.one_of(
    st.binary(max_size=8),
    st.builds(text, st.sampled_from([1, 2, 3, 4, 9]), st.binary(max_size=200)),
    st.builds(lambda size: text(2, b"1" * size), st.integers(0, 20_000)),
    st.just(text(1, b"application/json")),
    st.builds(lambda number, kind, data: field(number, kind, data), st.integers(0, 20), st.integers(0, 7), st.binary()),
)


@st.composite
def messages(draw: Any) -> bytes:
    """Fields, wrong ones among them, cut at some place."""
    data = b"".join(draw(st.lists(pieces, max_size=5)))
    return data if draw(st.booleans()) else data[: draw(st.integers(0, len(data)))]


@fuzzed
@given(messages())
def test_messages_are_read_as_the_generated_class_reads_them(message):
    try:
        theirs = Payload.FromString(message)
    except DecodeError:
        theirs = None
    try:
        ours = unpack(message)
    except MalformedPayloadError:
        if theirs is not None:
            assert theirs.more or theirs.content_type not in ("", "application/json")
        return
    if theirs is None:  # a text that is no UTF-8, of which JSON will say so
        with pytest.raises(UnicodeDecodeError):
            message.decode()
        return
    assert ours == theirs.json.encode()
    assert unpack_items(message) == [ours]


@fuzzed
@given(st.lists(st.binary(min_size=1, max_size=300) | st.just(b"x" * 20_000), min_size=1, max_size=5))
def test_what_is_packed_is_unpacked(items):
    assert unpack_items(pack(*items)) == items
    assert unpack(pack(items[0])) == items[0]


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from(["hunter2 hunter2", "1", "", "NaN"]),
)
json_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["a", "b", "c", "name", "tries", "echo", "login", "values"]) | st.text(), inner
        )
    ),
    max_leaves=20,
)


@st.composite
def argument_bytes(draw: Any) -> bytes:
    """JSON, nearly JSON, and what is none."""
    names = st.sampled_from(["a", "b", "c", "d", "e", "login", "value", "number", "values", "x", "__class__"])
    value = draw(st.dictionaries(names, json_values, max_size=6) | st.lists(json_values, max_size=6) | json_values)
    data = json.dumps(value, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    for _ in range(draw(st.integers(0, 2)) if draw(st.booleans()) else 0):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=3)) + data[at + draw(st.integers(0, 2)) :]
    return data


@settings(fuzzed, max_examples=300)
@given(st.sampled_from([*payloads.procedures]), argument_bytes())
def test_arguments_are_read_or_refused(name, data):
    procedure = payloads.procedures[name]
    try:
        args, kwargs = procedure.arguments.load(data)
    except ServiceError as error:
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        assert "hunter2" not in f"{error.message} {error.details}"
        assert len(error.message.encode()) <= STATUS_MESSAGE_BYTES
        assert sum(detail.ByteSize() for detail in error.details) <= STATUS_DETAILS_BYTES
    else:
        procedure.signature.bind(*args, **kwargs)


@settings(fuzzed, max_examples=100)
@given(data=st.data())
def test_arguments_of_every_shape_are_read_or_refused(data, shapes):
    procedure = data.draw(st.sampled_from([*shapes.procedures.values()]))
    try:
        procedure.arguments.load(data.draw(argument_bytes()))
    except ServiceError as error:
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT

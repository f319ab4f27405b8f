import dataclasses

import pytest
from pydantic import Base64Bytes, BaseModel, ConfigDict, field_serializer

from ephaptic_grpc import ExposeError, Service

BINARY = b"\x00\xff"


class Encoded(BaseModel):
    data: Base64Bytes
    more: list["Encoded"] = []


class Hex(BaseModel):
    data: bytes

    @field_serializer("data")
    def as_hex(self, data: bytes) -> str:
        return data.hex()


class AsBase64(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    data: bytes


@dataclasses.dataclass
class Plain:
    data: bytes


def test_bytes_are_base64url_unless_their_class_says_otherwise(serve):
    service = Service("bytes.v1.BytesService")

    @service.expose
    def bare(data: bytes) -> list[bytes]:
        return [data]

    @service.expose
    def plain(value: Plain, other: AsBase64) -> tuple[Plain, AsBase64]:
        return value, other

    client = serve(service).client
    assert client.bare(BINARY) == [BINARY]
    assert client.plain(Plain(BINARY), AsBase64(data=BINARY)) == (Plain(BINARY), AsBase64(data=BINARY))


def test_what_encodes_itself_is_not_encoded_again(serve):
    service = Service("bytes.v1.BytesService")

    @service.expose
    def data(value: Encoded) -> bytes:
        return value.data

    @service.expose
    def same(value: Encoded) -> list[Encoded]:
        return [value, *value.more]

    @service.expose
    def from_hex(value: Hex) -> str:
        return value.data.decode()

    value = Encoded(data=b"AP8=", more=[Encoded(data=b"AP8=")])
    client = serve(service).client
    assert value.data == BINARY
    assert client.data(value) == BINARY
    assert client.same(value) == [value, *value.more]
    assert client.from_hex(Hex(data=b"ab")) == "6162"


def test_bare_bytes_beside_a_model_that_encodes_its_own_are_refused():
    service = Service("bytes.v1.BytesService")

    def both() -> tuple[bytes, Encoded]: ...

    with pytest.raises(ExposeError, match=r"both .* mixes bare bytes with a model that encodes its bytes itself"):
        service.expose(both)

"""What protoc makes of the compiled example, called with nothing but json."""

import importlib
import json
import sys

import grpc
import pytest

from ephaptic_grpc.codegen.proto import proto_files
from ephaptic_grpc.codegen.stubs import python_stubs
from ephaptic_grpc.contract import Contract
from examples.chat import chat
from examples.fastapi_app import orders


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    """A package of stubs of both examples."""
    folder = tmp_path_factory.mktemp("stubs")
    for path, text in python_stubs(proto_files(map(Contract.of, [chat, orders]))).items():
        (folder / "example_stubs" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "example_stubs" / path).write_text(text)
    sys.path.insert(0, str(folder))
    yield importlib.import_module
    sys.path.remove(str(folder))


def test_the_chat_by_generated_stubs(serve, stubs):
    pb2 = stubs("example_stubs.chat.v1.payload_pb2")
    stub = stubs("example_stubs.chat.v1.chat_pb2_grpc").ChatServiceStub(serve(chat).channel)

    words = stub.AiResponse(pb2.Payload(json=json.dumps({"message": "How do I write a lambda?"})))
    assert json.loads(next(words).json).startswith("Lambdas")
    words.cancel()

    for load in stub.SystemLoad(pb2.Payload(json=json.dumps([0.05]))):
        assert set(json.loads(load.json)) == {"at", "cpu_percent", "memory_percent"}
        break


def test_orders_by_generated_stubs(serve, stubs):
    pb2 = stubs("example_stubs.orders.v1.payload_pb2")
    stub = stubs("example_stubs.orders.v1.orders_pb2_grpc").OrdersServiceStub(serve(orders).channel)

    reply = stub.Place(pb2.Payload(json=json.dumps({"order": {"item": "tea"}})))
    assert json.loads(reply.json) >= 1
    assert (reply.content_type, list(reply.more)) == ("", [])

    with pytest.raises(grpc.RpcError) as caught:
        stub.Place(pb2.Payload())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

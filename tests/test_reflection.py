import shutil
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from ephaptic_grpc import CallError, Service
from ephaptic_grpc.contract import Contract
from ephaptic_grpc.reflection import SERVICES, contracts_of

BUF = shutil.which("buf", path=str(Path(sys.executable).parent))


@pytest.fixture
def served(serve, shapes):
    return serve(shapes, Service("empty.v1.EmptyService"), reflection=True)


def test_a_contract_from_a_running_server_is_that_of_the_service(served, shapes):
    empty = Contract.of(Service("empty.v1.EmptyService"))
    assert sorted(contracts_of(served.address, 10), key=lambda contract: contract.service) == [
        empty,
        Contract.of(shapes),
    ]


def test_an_old_server_is_asked_by_the_old_name(shapes, served, monkeypatch):
    monkeypatch.setattr("ephaptic_grpc.reflection.SERVICES", ("grpc.reflection.v9.ServerReflection", SERVICES[1]))
    assert Contract.of(shapes) in contracts_of(served.address, 10)


def test_every_service_is_listed(served):
    database = ProtoReflectionDescriptorDatabase(served.channel)
    assert sorted(database.get_services()) == [
        "empty.v1.EmptyService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "shapes.v1.ShapesService",
    ]
    assert database.FindFileContainingSymbol("grpc.health.v1.Health").name == "grpc_health/v1/health.proto"


def test_a_function_is_found_by_its_name(served):
    found, *unknown = answers(served, "shapes.v1.ShapesService.Find", "shapes.v1.ShapesService.Lose", "shapes.v1.Find")
    assert len(found.file_descriptor_response.file_descriptor_proto) > 1
    assert [answer.error_response.error_code for answer in unknown] == 2 * [grpc.StatusCode.NOT_FOUND.value[0]]


def answers(served, *symbols):
    call = served.channel.stream_stream(
        f"/{SERVICES[0]}/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    return call(iter([reflection_pb2.ServerReflectionRequest(file_containing_symbol=one or None) for one in symbols]))


def test_a_server_tells_nothing_unless_it_is_asked_for(serve, shapes):
    address = serve(shapes).address
    with pytest.raises(CallError) as caught:
        contracts_of(address, 10)
    assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED


def test_what_makes_no_sense_is_answered(served):
    codes = [answer.error_response.error_code for answer in answers(served, "no.such.Thing", "")]
    assert codes == [grpc.StatusCode.NOT_FOUND.value[0], grpc.StatusCode.INVALID_ARGUMENT.value[0]]


@pytest.mark.parametrize("message", [b"\xff\xff\xff", b"\x1a\x02\xff\xfe"])
def test_what_is_no_request_is_refused_in_our_words(served, message):
    call = served.channel.stream_stream(f"/{SERVICES[0]}/ServerReflectionInfo")
    with pytest.raises(grpc.RpcError) as caught:
        list(call(iter([message])))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "the message is not a ServerReflectionRequest"


@pytest.mark.once
def test_buf_curl_lists_and_calls(served):
    assert BUF, "buf is not installed: it is in the dependency group 'test', as buf-bin"

    def curl(*arguments: str) -> str:
        command = [BUF, "curl", "--http2-prior-knowledge", "--protocol", "grpc", *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    address = f"http://{served.address}"
    listed = curl("--list-methods", address).split()
    assert "shapes.v1.ShapesService/Find" in listed
    assert "shapes.v1.ShapesService/Trees" in listed
    found = curl("-d", r'{"json": "[\"a\"]"}', f"{address}/shapes.v1.ShapesService/Find")
    assert r'"[\"a\",\"x\"]"' in found
    pets = curl("-d", "{}", f"{address}/shapes.v1.ShapesService/Pets")
    assert [kind in pets for kind in ("cat", "dog")] == [True, True]

"""What every server of gRPC has, in hostile hands: health, and reflection where it was asked for."""

import asyncio
import re
import subprocess
import sys

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from h2.settings import SettingCodes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_http2 import RawHttp2, message

from ephaptic_grpc import CallError, Server, Service
from ephaptic_grpc.reflection import SERVICES, contracts_of

plain = Service("plain.v1.PlainService")


@plain.expose
async def add(a: int, b: int) -> int:
    return a + b


@pytest.mark.parametrize("method", ["Check", "Watch"])
@pytest.mark.parametrize("sent", [b"\xff\xff", b"\x0a\x02\xff\xfe", b"\x0a\x7f"])
def test_what_is_no_question_about_health_is_refused_in_our_words(serve, method, sent, caplog):
    channel = serve(plain).channel
    with pytest.raises(grpc.RpcError) as caught:
        list(channel.unary_stream(f"/grpc.health.v1.Health/{method}")(sent, timeout=20))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "the message is not a HealthCheckRequest"
    assert not caplog.records


@pytest.mark.anyio
async def test_who_watches_and_reads_nothing_holds_nobody_up():
    async with Server(plain, port=0) as server:
        with RawHttp2(server.address) as raw:
            raw.http.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
            for name in ("", "plain.v1.PlainService"):
                request = health_pb2.HealthCheckRequest(service=name).SerializeToString()
                raw.send(b"/grpc.health.v1.Health/Watch", message(request))
            async with grpc.aio.insecure_channel(server.address) as channel:
                watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
                serving = health_pb2.HealthCheckResponse(status="SERVING")
                assert await asyncio.wait_for(watch.read(), 20) == serving.SerializeToString()
            await asyncio.wait_for(server.stop(1), 20)


@pytest.mark.anyio
async def test_their_streams_have_a_bound_of_their_own(monkeypatch):
    async def watches() -> bool:
        try:
            return bool(await watch(b"").read())
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            return False

    monkeypatch.setattr("ephaptic_grpc.limits.STANDARD_STREAMS", 3)
    async with Server(plain, port=0, reflection=True) as server, grpc.aio.insecure_channel(server.address) as channel:
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
        watching = [watch(b"") for _ in range(3)]
        for one in watching:
            assert await one.read()
        assert not await watches()
        assert await channel.unary_unary("/grpc.health.v1.Health/Check")(b"")
        reflect = channel.stream_stream(f"/{SERVICES[0]}/ServerReflectionInfo")
        asking = [reflect() for _ in range(3)]
        for one in asking:
            await one.write(reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString())
            assert await one.read()
        assert await reflect().code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        watching[0].cancel()
        while not await watches():
            pass  # until the server knows that one has left


requests = st.one_of(
    st.binary(max_size=20),
    st.builds(
        lambda kind, text: reflection_pb2.ServerReflectionRequest(**{kind: text}).SerializeToString(),
        st.sampled_from(
            ["file_by_filename", "file_containing_symbol", "all_extension_numbers_of_type", "list_services", "host"]
        ),
        st.text(st.characters(codec="utf-8"))
        | st.sampled_from(
            ["plain.v1.PlainService", ".", "../../etc/passwd", "google.protobuf.MethodOptions", "x" * 5000]
        ),
    ),
    st.builds(
        lambda name, number: reflection_pb2.ServerReflectionRequest(
            file_containing_extension=reflection_pb2.ExtensionRequest(containing_type=name, extension_number=number)
        ).SerializeToString(),
        st.sampled_from(["", "google.protobuf.MethodOptions", "plain.v1.PlainService", "\0"]),
        st.integers(-(2**31), 2**31 - 1),
    ),
)


@pytest.fixture
def reflected(serve):
    return serve(plain, reflection=True).channel.stream_stream(f"/{SERVICES[0]}/ServerReflectionInfo")


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(requests, min_size=1, max_size=3))
def test_reflection_answers_or_refuses(reflected, sent):
    try:
        assert len(list(reflected(iter(sent), timeout=20))) == len(sent)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error.details() == "the message is not a ServerReflectionRequest"


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--host", "0.0.0.0"], False),
        (["--host", "0.0.0.0", "--reflection"], True),
        (["--host", "127.0.0.1"], True),
        (["--host", "127.0.0.1", "--no-reflection"], False),
    ],
)
def test_contracts_are_told_on_loopback_alone_unless_asked_for(tmp_path, arguments, told):
    (tmp_path / "app.py").write_text("from ephaptic_grpc import expose\n@expose\ndef f() -> int: return 1\n")
    command = [sys.executable, "-m", "ephaptic_grpc", "serve", "app", "--port", "0", *arguments]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        try:
            port = next(found[1] for line in process.stderr if (found := re.match(r"on \S+:(\d+) ", line)))
            if told:
                assert [one.service for one in contracts_of(f"127.0.0.1:{port}", 20)] == [
                    "functions.v1.FunctionsService"
                ]
            else:
                with pytest.raises(CallError) as caught:
                    contracts_of(f"127.0.0.1:{port}", 20)
                assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED
        finally:
            process.kill()

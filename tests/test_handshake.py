"""Why a connection fails, in words: of both clients, and of the command line."""

import asyncio
import re
import socket
import threading
import time

import grpc
import pytest
from authority import Authority

from ephaptic_grpc import TLS, CallError, ClientTLS, Server, Service, connect, connect_sync
from ephaptic_grpc.handshake import ChannelSecurity, reason

pytestmark = pytest.mark.anyio
one_loop = pytest.mark.parametrize("anyio_backend", ["asyncio"])

service = Service("safe.v1.SafeService")


@service.expose
async def one() -> int:
    return 1


@service.expose
async def ones():
    yield 1


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True)
def patient(monkeypatch) -> None:
    """A busy machine may need longer for a step than a client should wait."""
    monkeypatch.setattr("ephaptic_grpc.handshake._STEP_SECONDS", 10.0)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


def of_any_date(certificate, key) -> grpc.ServerCredentials:
    """What ``TLS`` refuses."""
    return grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])


@pytest.fixture
def case(request, authority, stranger):
    """Options of a server, and the ``tls`` of its client."""
    known, good = ClientTLS(ca=authority.ca), authority.issue("localhost")
    match request.param:
        case "expired":
            return {"credentials": of_any_date(**authority.issue("localhost", valid=(-9, -1)))}, known
        case "early":
            return {"credentials": of_any_date(**authority.issue("localhost", valid=(1, 9)))}, known
        case "name":
            return {"tls": TLS(**authority.issue("other.example", "*.example.org"))}, known
        case "names":
            return {"tls": TLS(**authority.issue(*(f"{number}.example" for number in range(9))))}, known
        case "authority":
            return {"tls": TLS(**good)}, ClientTLS(ca=stranger.ca)
        case "system":
            return {"tls": TLS(**good)}, True
        case "no certificate":
            return {"tls": TLS(**good, client_ca=authority.ca)}, known
        case "stranger":
            tls = ClientTLS(ca=authority.ca, **stranger.issue("carl.example"))
            return {"tls": TLS(**good, client_ca=authority.ca)}, tls
        case "plaintext server":
            return {}, known
        case "plaintext client":
            return {"tls": TLS(**good)}, False


@one_loop
@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("expired", r"the server's certificate expired on 20\d\d-\d\d-\d\d$"),
        ("early", r"the server's certificate is not valid before 20\d\d-\d\d-\d\d \d\d:\d\d UTC$"),
        ("name", r"the server's certificate is for other\.example, \*\.example\.org, not localhost$"),
        ("names", r"is for 0\.example, 1\.example, 2\.example, 3\.example, 4\.example and others, not localhost$"),
        ("authority", r"certificate was issued by an unknown authority \(Testing CA .*\), which is not in .*ca\.pem$"),
        ("system", r"issued by an unknown authority \(Testing CA .*\), which is not in what this system trusts$"),
        ("no certificate", r"it seems to want a client certificate$"),
        ("stranger", r"the server refuses the client certificate in .*\.pem: its authority is none that"),
        ("plaintext server", r"this client speaks TLS, the server doesn't$"),
        ("plaintext client", r"the server speaks TLS, this client doesn't: it needs tls= \(--tls\)$"),
    ],
    indirect=["case"],
)
async def test_a_client_says_why_it_can_not_connect(case, said):
    options, tls = case
    said = re.compile(said, re.MULTILINE)  # the note has a line of its own
    async with Server(service, port=0, **options) as server:
        target = f"localhost:{server.port}"
        async with connect(target, service, tls=tls) as client:
            with pytest.raises(CallError, match=said) as caught:
                await client.one()
            assert caught.value.code is grpc.StatusCode.UNAVAILABLE
            assert caught.value.message.startswith(f"can't connect to {target}: ")
            assert caught.value.__notes__[0].startswith("gRPC's words: failed to connect")
            with pytest.raises(CallError, match=said):
                async for _ in client.ones():
                    pass

        def blocking() -> None:
            with connect_sync(target, service, tls=tls) as client:
                with pytest.raises(CallError, match=said):
                    client.one()
                with pytest.raises(CallError, match=said):
                    list(client.ones())
            with connect_sync(target, service.name, tls=tls) as client, pytest.raises(CallError, match=said):
                client.one()

        await asyncio.to_thread(blocking)


@pytest.mark.once
@one_loop
async def test_what_has_nothing_to_do_with_tls_is_said_as_it_was(authority):
    async with connect("localhost:1", service, tls=ClientTLS(ca=authority.ca)) as client:
        with pytest.raises(CallError, match="Connection refused") as caught:
            await client.one()
        assert caught.value.message.startswith("failed to connect")
    strange = grpc.ssl_channel_credentials(authority.ca.read_bytes())
    async with Server(service, port=0) as server, connect(server.address, service, credentials=strange) as client:
        with pytest.raises(CallError, match=r"^UNAVAILABLE: failed to connect"):  # whose object nobody can look into
            await client.one()


@pytest.mark.once
@one_loop
async def test_what_a_strangers_certificate_says_stays_in_its_line(authority, tmp_path):
    hostile = Authority(tmp_path / "hostile", name="A\n\x1b[31mB\u2028" + "C" * 50)
    async with (
        Server(service, port=0, tls=TLS(**hostile.issue("localhost"))) as server,
        connect(f"localhost:{server.port}", service, tls=ClientTLS(ca=authority.ca)) as client,
    ):
        with pytest.raises(CallError) as caught:
            await client.one()
    assert f"unknown authority (A??[31mB?{'C' * 50})" in caught.value.message


@pytest.mark.once
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "the server hung up in the middle of the TLS handshake"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "this client speaks TLS, the server doesn't"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "this client speaks TLS, the server doesn't"),
        (bytes.fromhex("15030300020246"), "the server refuses the TLS handshake (tlsv1 alert protocol version)"),
    ],
)
def test_servers_of_other_kinds(authority, answer, said):
    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        (thread := threading.Thread(target=serve)).start()
        assert reason("127.0.0.1", listener.getsockname()[1], ClientTLS(ca=authority.ca)) == said
        thread.join()


@pytest.mark.once
@one_loop
async def test_a_client_whose_certificate_was_renewed(authority):
    """gRPC keeps the old one, which may have expired; the new one would do."""
    carl, tls = authority.issue("carl.example"), TLS(**authority.issue("localhost"), client_ca=authority.ca)
    other = Authority(authority.ca.parent / "other")
    async with Server(service, port=0, tls=tls) as server:
        mine = ClientTLS(ca=authority.ca, **other.issue("carl.example"))
        async with connect(f"localhost:{server.port}", service, tls=mine) as client:
            for name, path in carl.items():
                path.replace(getattr(mine, name))
            with pytest.raises(CallError, match="its TLS files have changed since this client was made"):
                await client.one()
        async with connect(f"localhost:{server.port}", service, tls=mine) as client:
            assert await client.one() == 1


@pytest.mark.once
def test_it_ends_where_nobody_answers(authority, monkeypatch):
    monkeypatch.setattr("ephaptic_grpc.handshake._STEP_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for tls in (ClientTLS(ca=authority.ca), None):
            began = time.monotonic()
            assert reason("127.0.0.1", silent.getsockname()[1], tls) is None
            assert time.monotonic() - began < 10


@pytest.mark.once
def test_who_tries_on_and_on_does_not_double_the_servers_connections(monkeypatch):
    monkeypatch.setattr("ephaptic_grpc.handshake._STEP_SECONDS", 0.1)
    monkeypatch.setattr("ephaptic_grpc.handshake._FRESH_SECONDS", 60)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        security = ChannelSecurity(f"127.0.0.1:{server.getsockname()[1]}", False, None)
        failed = CallError(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: ...")
        assert {security.explain(failed) for _ in range(50)} == {failed}
        connections = 0
        while True:
            try:
                server.accept()[0].close()
            except BlockingIOError:
                break
            connections += 1
        assert connections == 1


@pytest.mark.once
@one_loop
async def test_many_failed_calls_wait_in_one_thread():
    with socket.create_server(("127.0.0.1", 0)) as server:
        security = ChannelSecurity(f"127.0.0.1:{server.getsockname()[1]}", False, None)
        failed = CallError(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: ...")
        calls = asyncio.gather(*(security.explain_soon(failed) for _ in range(100)))
        assert await asyncio.to_thread(int) == 0  # there are fewer threads than that
        assert not calls.done()
        server.accept()[0].close()
        assert set(await calls) == {failed}


@pytest.mark.once
@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("localhost:1", ("localhost", 1)),
        ("dns:///a.example:443", ("a.example", 443)),
        ("dns:a.example:443", ("a.example", 443)),
        ("dns://8.8.8.8/a.example:443", ("a.example", 443)),
        ("ipv4:127.0.0.1:1", ("127.0.0.1", 1)),
        ("[::1]:1", ("::1", 1)),
        ("ipv6:[::1]:1", ("::1", 1)),
        ("ipv4:127.0.0.1:1,127.0.0.2:1", None),
        ("unix:/run/x", None),
        ("localhost", None),
    ],
)
def test_where_a_target_is(target, address):
    assert ChannelSecurity(target, False, None)._address == address

"""Files of certificates and keys: those that are right, those that are not, those that change while a server runs."""

import asyncio
import logging
import re
import socket
import ssl
import threading
import warnings
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import httpx
import pytest
import trustme
from authority import Authority
from waiting import eventually

from ephaptic_grpc import TLS, ClientTLS, PeerIdentity, Server, Service, connect, connect_sync, current_call
from ephaptic_grpc.asgi import web_app
from ephaptic_grpc.tls import read_pair, server_credentials, system_roots

one_loop = pytest.mark.parametrize("anyio_backend", ["asyncio"])

service = Service("safe.v1.SafeService")
steps: "asyncio.Queue[int]"


@service.expose
async def caller() -> list[str | None]:
    identity = current_call().peer_identity
    return [] if identity is None else [identity.common_name, *identity.dns_names, *identity.uris]


@service.expose
async def stepwise() -> AsyncIterator[int]:
    while True:
        yield await steps.get()


@service.expose
def whole_identity() -> bool:
    identity = current_call().peer_identity
    return identity == PeerIdentity(
        common_name="carl",
        dns_names=("carl.example",),
        uris=(),
        emails=("carl@example.com",),
        ip_addresses=("192.0.2.7",),
        certificate=identity.certificate,
    ) and identity.certificate.startswith("-----BEGIN CERTIFICATE-----")


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


def told(caplog) -> list[str]:
    """What has been logged, but for asyncio's own words about slow tests."""
    return [record.message for record in caplog.records if record.name == "ephaptic_grpc"]


# --- servers and clients


@pytest.mark.anyio
@pytest.mark.parametrize("names", ["files", "SSL_CERT_FILE", "SSL_CERT_DIR"])
async def test_a_server_that_proves_who_it_is(authority, names, monkeypatch, tmp_path):
    tls: ClientTLS | bool = ClientTLS(ca=authority.ca)
    if names != "files":
        (tmp_path / "0a1b2c3d.0").write_bytes(authority.ca.read_bytes())
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca if names == "SSL_CERT_FILE" else tmp_path / "none"))
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
        tls = True
    async with Server(service, port=0, tls=TLS(**authority.issue("127.0.0.1"))) as server:
        async with connect(server.address, service, tls=tls) as client:
            assert await client.caller() == []

        def blocking() -> list[str]:
            with connect_sync(server.address, service, tls=tls) as client:
                return client.caller()

        assert await asyncio.to_thread(blocking) == []


@pytest.mark.anyio
async def test_a_server_that_asks_its_callers_who_they_are(authority):
    carl = authority.issue("carl.example", "carl@example.com", "192.0.2.7", common_name="carl")
    tls = ClientTLS(ca=authority.ca, **carl)
    async with (
        Server(service, port=0, tls=TLS(**authority.issue("127.0.0.1"), client_ca=authority.ca)) as server,
        connect(server.address, service, tls=tls) as client,
    ):
        assert await client.caller() == ["carl", "carl.example"]
        assert await client.whole_identity()


@pytest.mark.anyio
@pytest.mark.once
@one_loop
async def test_nobody_speaks_an_old_tls(authority):
    async with Server(service, port=0, grace=0, tls=TLS(**authority.issue("127.0.0.1"))) as server:
        for version, works in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
            context = ssl.create_default_context(cafile=authority.ca)
            context.set_ciphers("DEFAULT:@SECLEVEL=0")  # else this side refuses
            context.set_alpn_protocols(["h2"])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = context.maximum_version = version
            opened = asyncio.open_connection("127.0.0.1", server.port, ssl=context)
            if works:
                (await opened)[1].close()
            else:
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    await opened


@pytest.mark.anyio
@pytest.mark.once
@one_loop
async def test_an_identity_that_is_asked_for_when_the_call_is_over(authority):
    """As a thread does that outlives its caller. gRPC itself would end the process."""
    calls, begun, over, found = [], threading.Event(), threading.Event(), []
    late = Service("late.v1.LateService")

    @late.expose
    async def keep() -> None:
        calls.append(current_call())

    @late.expose
    def outlive() -> None:
        begun.set()
        over.wait(20)
        found.append(current_call().peer_identity)

    tls = TLS(**authority.issue("127.0.0.1"), client_ca=authority.ca)
    mine = ClientTLS(ca=authority.ca, **authority.issue("carl.example"))
    async with Server(late, port=0, tls=tls, grace=0) as server:
        async with connect(server.address, late, tls=mine) as client:
            outliving = asyncio.ensure_future(client.outlive())
            await eventually(begun.is_set)
            outliving.cancel()
            await asyncio.gather(outliving, return_exceptions=True)
            for _ in range(3):
                await client.keep()
        over.set()
        await eventually(lambda: found)
    assert [call.peer_identity.dns_names for call in calls] == [("carl.example",)] * 3
    assert found[0].dns_names == ("carl.example",)


@pytest.mark.anyio
async def test_without_tls_nobody_knows_who_calls():
    async with Server(service, port=0) as server, connect(server.address, service) as client:
        assert await client.caller() == []
    transport = httpx.ASGITransport(web_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        assert (await client.post("/safe.v1.SafeService/Caller", json=[])).json() == []


def test_an_identity_as_it_is_told():
    """What isn't UTF-8 becomes no other name."""
    told = {"x509_pem_cert": [b"-----"], "x509_common_name": [b""], "peer_uri": [b"spiffe://x/\xff", b"b"]}
    assert PeerIdentity.of(told) == PeerIdentity(None, (), ("spiffe://x/\\xff", "b"), (), (), "-----")
    assert PeerIdentity.of({"transport_security_type": [b"ssl"]}) is None


def test_the_authorities_of_the_system():
    assert b"-----BEGIN CERTIFICATE-----" in (system_roots() or b"-----BEGIN CERTIFICATE-----")


# --- files that can't be used


@pytest.fixture(scope="module")
def files(authority, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    good, other = authority.issue("localhost"), authority.issue("localhost")
    rsa = trustme.CA(key_type=trustme.KeyType.RSA).private_key_pem.bytes()
    expired, early = authority.issue("localhost", valid=(-9, -1)), authority.issue("localhost", valid=(1, 9))
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(good["key"].read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    pem = good["certificate"].read_bytes()
    written = {
        "good.pem": pem,
        "good.key": good["key"].read_bytes(),
        "other.key": other["key"].read_bytes(),
        "rsa.key": rsa,
        "locked.key": locked,
        "half.key": good["key"].read_bytes()[:90],
        "half.pem": pem[: len(pem) // 2],
        "damaged.pem": pem.replace(pem[100:140], b"A" * 40),
        "text.pem": b"hello",
        "expired.pem": expired["certificate"].read_bytes(),
        "expired.key": expired["key"].read_bytes(),
        "early.pem": early["certificate"].read_bytes(),
        "early.key": early["key"].read_bytes(),
        "with a comment.pem": "Größe\n".encode() + pem,
    }
    for name, data in written.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.once
@pytest.mark.parametrize(
    ("certificate", "key", "client_ca", "said"),
    [
        ("none.pem", "good.key", None, "can't read none.pem: No such file or directory"),
        ("good.pem", "none.key", None, "can't read none.key: No such file or directory"),
        ("good.pem", ".", None, "can't read .: Is a directory"),
        ("text.pem", "good.key", None, "text.pem holds no certificate in PEM form"),
        ("half.pem", "good.key", None, "half.pem holds no certificate in PEM form"),
        ("damaged.pem", "good.key", None, "damaged.pem holds a certificate that is damaged"),
        ("good.key", "good.pem", None, "good.key holds a key, but no certificate in PEM form"),
        ("good.pem", "good.pem", None, "good.pem holds no private key in PEM form"),
        ("good.pem", "half.key", None, "half.key holds no private key in PEM form"),
        ("good.pem", "locked.key", None, "the key in locked.key is encrypted: 'openssl pkey"),
        ("good.pem", "other.key", None, "the key in other.key is not that of the certificate in good.pem"),
        ("good.pem", "rsa.key", None, "the key in rsa.key is not that of the certificate in good.pem"),
        ("expired.pem", "expired.key", None, r"the certificate expired on 20\d\d-\d\d-\d\d \(expired.pem\)"),
        ("early.pem", "early.key", None, r"the certificate is not valid before 20.* UTC \(early.pem\)"),
        ("good.pem", "good.key", "text.pem", "text.pem holds no certificate in PEM form"),
        ("with a comment.pem", "good.key", "good.pem", None),
    ],
)
def test_what_is_wrong_with_a_file(files, certificate, key, client_ca, said, monkeypatch):
    monkeypatch.chdir(files)
    if said is None:
        assert server_credentials(TLS(certificate, key, client_ca))
        return
    with pytest.raises((OSError, ValueError), match=said):
        server_credentials(TLS(certificate, key, client_ca))
    if client_ca is None:
        with pytest.raises((OSError, ValueError), match=said):
            connect("localhost:1", service, tls=ClientTLS(certificate=certificate, key=key))


@pytest.mark.anyio
@pytest.mark.once
@one_loop
async def test_a_server_that_can_not_use_its_files_does_not_start(files, monkeypatch):
    monkeypatch.chdir(files)
    with pytest.raises(ValueError, match="the certificate expired on"):
        await Server(service, port=0, tls=TLS("expired.pem", "expired.key")).start()


def test_what_does_not_go_together(files):
    tls = TLS(files / "good.pem", files / "good.key")
    with pytest.raises(ValueError, match="go together"):
        ClientTLS(certificate=files / "good.pem")
    with pytest.raises(TypeError, match="tls= and credentials="):
        Server(service, tls=tls, credentials=grpc.ssl_server_credentials([(b"", b"")]))
    with pytest.raises(TypeError, match="tls= and credentials="):
        connect("localhost:1", service, tls=True, credentials=grpc.ssl_channel_credentials())
    with pytest.raises(TypeError, match=r"tls is True or a ClientTLS, such as ClientTLS\(ca='ca.pem'\), not TLS"):
        connect_sync("localhost:1", service, tls=tls)
    with pytest.raises(TypeError, match=r"tls is a TLS, such as TLS\('cert.pem', 'key.pem'\), not True"):
        Server(service, tls=True)


@pytest.mark.once
def test_a_certificate_of_another_purpose(tmp_path):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "carl")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2120, 1, 1, tzinfo=UTC))
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, private = tmp_path / "carl.pem", tmp_path / "carl.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
    assert read_pair(pem, private, of_server=False).expires.year == 2120
    with pytest.raises(ValueError, match=r"carl\.pem is not one for servers"):
        read_pair(pem, private, of_server=True)


# --- files that change


def shown(address: str, authority: Authority) -> str:
    """The certificate that a new connection gets, as PEM."""
    host, port = address.split(":")
    context = ssl.create_default_context(cafile=authority.ca)
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, int(port)), 10) as connection,
        context.wrap_socket(connection, server_hostname=host) as secured,
    ):
        return ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True))


@pytest.mark.anyio
async def test_a_new_certificate_while_a_stream_runs(authority, stranger, caplog):
    """The stream goes on; new connections get the new certificate, once it is whole."""
    global steps
    steps = asyncio.Queue()
    caplog.set_level(logging.INFO, "ephaptic_grpc")
    files, newer, client = authority.issue("127.0.0.1"), authority.issue("127.0.0.1"), authority.issue("a.example")
    (client_ca := authority.ca.with_name("clients.pem")).write_bytes(authority.ca.read_bytes())
    new = newer["certificate"].read_text()
    async with Server(service, port=0, grace=0, tls=TLS(**files, client_ca=client_ca)) as server:
        old = files["certificate"].read_text()
        (said,) = told(caplog)
        assert re.fullmatch(r"the TLS certificate in use is valid until 20\d\d-\d\d-\d\d \(.*\)", said)
        caplog.clear()
        assert old.startswith(await asyncio.to_thread(shown, server.address, authority))
        async with connect(server.address, service, tls=ClientTLS(ca=authority.ca, **client)) as long_lived:
            stream = aiter(long_lived.stepwise())
            steps.put_nowait(1)
            assert await anext(stream) == 1

            newer["key"].replace(files["key"])  # the half of it
            for _ in range(2):
                assert old.startswith(await asyncio.to_thread(shown, server.address, authority))
            assert told(caplog) == [
                f"the TLS certificate in use stays: the key in {files['key']} is not that of the certificate in "
                f"{files['certificate']}"
            ]
            newer["certificate"].replace(files["certificate"])
            caplog.clear()
            for _ in range(2):
                assert new.startswith(await asyncio.to_thread(shown, server.address, authority))
            (said,) = told(caplog)
            assert re.fullmatch(r"a new TLS certificate is in use, valid until 20\d\d-\d\d-\d\d \(.*\)", said)

            steps.put_nowait(2)
            assert await anext(stream) == 2
        client_ca.write_bytes(stranger.ca.read_bytes())  # other callers, too
        tls = ClientTLS(ca=authority.ca, **stranger.issue("b.example"))
        async with connect(server.address, service, tls=tls) as other:
            assert await other.caller() == [None, "b.example"]


@pytest.mark.anyio
@pytest.mark.once
@one_loop
async def test_what_can_not_be_used_yet_is_looked_at_again(authority, caplog, monkeypatch):
    """A certificate becomes valid without a change of its file."""

    class Past(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2020, 1, 1, tzinfo=tz)

    monkeypatch.setattr("ephaptic_grpc.tls._AGAIN_SECONDS", 0.0)
    files, new = authority.issue("127.0.0.1"), authority.issue("127.0.0.1")
    pem = new["certificate"].read_text()
    async with Server(service, port=0, tls=TLS(**files)) as server:
        for name, path in new.items():
            path.replace(files[name])
        with monkeypatch.context() as clock:
            clock.setattr("ephaptic_grpc.tls.datetime", Past)
            for _ in range(2):
                assert not pem.startswith(await asyncio.to_thread(shown, server.address, authority))
        assert pem.startswith(await asyncio.to_thread(shown, server.address, authority))
    assert [line.partition(" before ")[0] for line in told(caplog)] == [
        "the TLS certificate in use stays: the certificate is not valid"
    ]


@pytest.mark.anyio
async def test_files_that_are_gone_for_a_while(authority, caplog):
    files = authority.issue("127.0.0.1")
    async with Server(service, port=0, tls=TLS(**files)) as server:
        away = files["key"].rename(files["key"].with_suffix(".away"))
        for _ in range(2):
            await asyncio.to_thread(shown, server.address, authority)
        away.rename(files["key"])
        await asyncio.to_thread(shown, server.address, authority)
    assert told(caplog) == [f"the TLS certificate in use stays: can't read {files['key']}: No such file or directory"]


# --- without it


@pytest.mark.anyio
@pytest.mark.once
@one_loop
@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
async def test_a_server_that_is_open_to_others_without_tls_says_so_once(authority, host, caplog):
    async with Server(service, host=host, port=0) as server:
        address = server.address
    said = f"{address} is open to other machines, without TLS: give the server tls= (--tls-cert, --tls-key)"
    assert told(caplog) == [said] * (host == "0.0.0.0")
    caplog.clear()
    async with Server(service, host=host, port=0, tls=TLS(**authority.issue("localhost"))):
        assert not told(caplog)

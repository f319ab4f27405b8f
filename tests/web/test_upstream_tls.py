"""TLS between Envoy and its servers, and between callers and Envoy: the real one."""

import http.client
import json
import socket
import ssl
import textwrap
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from authority import Authority
from conftest import envoy_in_front, grpc_server, serving
from waiting import eventually_sync

from ephaptic_grpc import CallError, ClientTLS, connect_sync
from ephaptic_grpc.codegen.envoy import Gateway
from ephaptic_grpc.codegen.envoy_tls import UpstreamTLS

APP = """
    import asyncio
    from pathlib import Path
    from ephaptic_grpc import Service, current_call

    web = Service("web.v1.WebService")  # that of the Envoys of the tests

    @web.expose
    async def who() -> str | None:
        identity = current_call().peer_identity
        return identity and identity.common_name

    @web.expose
    async def lines():
        "Each line of a file, as it comes."
        with Path("lines").open() as file:
            while True:
                if line := file.readline():
                    yield line
                await asyncio.sleep(0.01)
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "app.py").write_text(textwrap.dedent(APP))
    (tmp_path / "lines").touch()
    (tmp_path / "index.html").write_text("hello")
    return tmp_path


def tls_options(certificate: Path, key: Path, client_ca: Path | None = None) -> list[str]:
    """Of ``serve``."""
    options = ["--tls-cert", str(certificate), "--tls-key", str(key)]
    return options if client_ca is None else [*options, "--client-ca", str(client_ca)]


def upstream(ca: Path, identity: dict[str, Path] | None = None, name: str | None = None) -> UpstreamTLS:
    return UpstreamTLS(
        ca=str(ca), identity=identity and (str(identity["certificate"]), str(identity["key"])), name=name
    )


def who(address: str, tls: ClientTLS | bool = False) -> str | None:
    """What the function says; the name of the status where it doesn't."""
    try:
        with connect_sync(address, "web.v1.WebService", tls=tls, timeout=10) as client:
            return client.who()
    except CallError as error:
        return error.code.name


def test_envoy_and_its_server_know_each_other(folder, authority):
    """To the server every caller is Envoy. A new certificate of the server ends no stream."""
    files, newer = authority.issue("127.0.0.1"), authority.issue("127.0.0.1")
    envoy = upstream(authority.ca, authority.issue("envoy.internal", common_name="envoy"))
    with (
        grpc_server("app", *tls_options(**files, client_ca=authority.ca), cwd=folder) as (_, address),
        envoy_in_front(Gateway(upstreams=(address,), upstream_tls=envoy), folder) as gateway,
        connect_sync(gateway, "web.v1.WebService") as client,
    ):
        eventually_sync(lambda: who(gateway) == "envoy")
        lines = client.lines()
        with (folder / "lines").open("a") as file:
            print("one", file=file, flush=True)
            assert next(lines) == "one\n"
            for name, path in newer.items():
                path.replace(files[name])
            mine = ClientTLS(ca=authority.ca, **authority.issue("me", common_name="me"))
            assert who(address, mine) == "me"  # a connection with the new certificate
            print("two", file=file, flush=True)
            assert next(lines) == "two\n"
        lines.close()


def test_a_server_by_its_name(folder, authority):
    """The name is asked for (SNI), and expected."""
    with (
        grpc_server("app", *tls_options(**authority.issue("*.internal")), cwd=folder) as (_, address),
        envoy_in_front(
            Gateway(upstreams=(address,), upstream_tls=upstream(authority.ca, name="orders.internal")), folder
        ) as gateway,
    ):
        eventually_sync(lambda: who(gateway) is None)


@pytest.mark.parametrize(
    ("case", "counted"),
    [
        ("name", "ssl.fail_verify_san"),
        ("authority", "ssl.fail_verify_error"),
        ("expired", "ssl.fail_verify_error"),
        ("no certificate", "health_check.failure"),
        ("plaintext server", "ssl.connection_error"),
        ("plaintext envoy", "health_check.failure"),
    ],
)
def test_whom_envoy_sends_nothing(folder, authority, stranger, case, counted):
    """And who takes nothing from Envoy."""
    files, tls, required = authority.issue("127.0.0.1"), upstream(authority.ca), case == "no certificate"
    match case:
        case "name":
            files = authority.issue("other.internal")
        case "authority":
            tls = upstream(stranger.ca)
        case "expired":
            files = authority.issue("127.0.0.1", valid=(-9, -1))
        case "plaintext envoy":
            tls = None
    pair = (files["key"].read_bytes(), files["certificate"].read_bytes())
    server = grpc.server(ThreadPoolExecutor(1))  # not ours, which refuses some of it when it starts
    if case == "plaintext server":
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port(
            "127.0.0.1:0", grpc.ssl_server_credentials([pair], authority.ca.read_bytes(), required)
        )
    server.start()
    try:
        with envoy_in_front(Gateway(upstreams=(f"127.0.0.1:{port}",), upstream_tls=tls), folder) as gateway:
            eventually_sync(lambda: count(folder / "admin", f"cluster.servers.{counted}") > 0)
            assert who(gateway) == "UNAVAILABLE"
    finally:
        server.stop(0).wait()


def count(admin: Path, name: str) -> int:
    """A figure that Envoy tells."""
    with closing(http.client.HTTPConnection("envoy")) as connection:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(admin))
        connection.request("GET", f"/stats?format=json&filter=^{name}$")
        return sum(stat["value"] for stat in json.loads(connection.getresponse().read())["stats"])


@pytest.mark.parametrize("edge", [[], ["--without-envoy"]], ids=["envoy", "without"])
def test_serve_web_speaks_tls_to_browsers(folder, authority, edge):
    """And asks them for certificates, where the server does."""
    files, mine = authority.issue("127.0.0.1"), authority.issue("me", common_name="me")
    options = ["--static", ".", *tls_options(**files, client_ca=authority.ca), *edge]
    with serving("app", folder, *options, cwd=folder) as served:
        assert served.web.startswith("https://")
        with_mine = ssl.create_default_context(cafile=authority.ca)
        with_mine.load_cert_chain(mine["certificate"], mine["key"])
        assert page(served.web, with_mine) == b"hello"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            page(served.web, ssl.create_default_context(cafile=authority.ca))
        tls = ClientTLS(ca=authority.ca, **mine)
        assert who(served.grpc, tls) == "me"
        if not edge:
            assert who(served.web.removeprefix("https://"), tls) is None  # Envoy knows who it is, the server doesn't


def page(url: str, context: ssl.SSLContext) -> bytes:
    with closing(http.client.HTTPSConnection(url.removeprefix("https://"), context=context, timeout=10)) as connection:
        connection.request("GET", "/")
        return connection.getresponse().read()

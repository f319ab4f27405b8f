"""A stream that is quiet for long lives through Envoy: its pings are allowed. A second here is what 100 are outside."""

import http.client
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from conftest import envoy_in_front
from web_service import web

from ephaptic_grpc.codegen.envoy import Gateway
from ephaptic_grpc.payload import pack
from ephaptic_grpc.testing import serving

QUIET_SECONDS = 3.5  # for six minutes
PINGS = 0.3  # for 30 s


def answer(folder: Path, headers: Mapping[str, str] = MappingProxyType({})) -> bytes:
    """What arrives of a quiet stream through Envoy."""
    with serving(web) as served, envoy_in_front(Gateway(upstreams=(served.address,)), folder) as address:
        connection = http.client.HTTPConnection(address, timeout=30)
        message = pack(b"[%g]" % QUIET_SECONDS)
        body = b"\0" + len(message).to_bytes(4) + message
        connection.request(
            "POST", "/web.v1.WebService/Quiet", body, {"content-type": "application/grpc-web+proto", **headers}
        )
        try:
            return connection.getresponse().read()
        except http.client.IncompleteRead as cut:
            return cut.partial
        finally:
            connection.close()


def test_it_lives(monkeypatch, tmp_path):
    monkeypatch.setattr("ephaptic_grpc.codegen.envoy.PING_SECONDS", PINGS)
    monkeypatch.setattr("ephaptic_grpc.limits.PING_SECONDS", PINGS)
    received = answer(tmp_path)
    assert b'"first"' in received
    assert b'"last"' in received
    assert b"grpc-status:0" in received


def test_it_would_not_where_the_server_allows_fewer_pings(monkeypatch, tmp_path):
    """gRPC's default is one in five minutes: the test above can tell."""
    monkeypatch.setattr("ephaptic_grpc.codegen.envoy.PING_SECONDS", PINGS)
    monkeypatch.setattr("ephaptic_grpc.server.server_options", list)
    assert b'"last"' not in answer(tmp_path)


def test_signs_of_life_get_through_one_by_one(tmp_path):
    received = answer(tmp_path, {"ephaptic-heartbeat": "500"})
    first, last = received.index(b'"first"'), received.index(b'"last"')
    assert 3 <= received[first:last].count(b"\0\0\0\0\0") <= 7

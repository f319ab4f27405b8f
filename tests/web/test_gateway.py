"""What Envoy answers to those who ask for what they shouldn't, and what it does where a server goes away."""

import http.client
import signal
from collections import Counter
from contextlib import ExitStack

import pytest
from conftest import envoy_in_front, grpc_server
from waiting import eventually_sync

from ephaptic_grpc import CallError, connect_sync
from ephaptic_grpc.codegen.envoy import Gateway

GRPC_WEB = "application/grpc-web+proto"
ADD = "/web.v1.WebService/Add"
TWO_AND_THREE = b"\0\0\0\0\x07\x12\x05[2,3]"


@pytest.fixture
def ask(served):
    """``ask(method, path, **headers)``: status, headers and body of an answer."""

    def ask(method: str, path: str, body: bytes = TWO_AND_THREE, **headers: str):
        connection = http.client.HTTPConnection(served.web.removeprefix("http://"), timeout=10)
        try:
            names = {name.replace("__", "-"): value for name, value in headers.items()}
            connection.request(method, path, body if method == "POST" else None, names)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    return ask


def test_a_call(ask, origin):
    status, headers, body = ask("POST", ADD, content__type=GRPC_WEB, origin=origin)
    assert (status, headers["access-control-allow-origin"]) == (200, origin)
    assert b"\x12\x015" in body
    assert b"grpc-status:0" in body


def test_a_preflight_of_who_may_call(ask, origin):
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type,ephaptic-batch"}
    status, headers, _ = ask("OPTIONS", ADD, origin=origin, **asked)
    assert (status, headers["access-control-allow-origin"]) == (200, origin)
    allowed = headers["access-control-allow-headers"].split(",")
    assert {"grpc-timeout", "ephaptic-batch", "ephaptic-contract", "ephaptic-heartbeat", "x-tenant"} <= {*allowed}
    assert headers["access-control-allow-credentials"] == "true"


@pytest.mark.parametrize(
    "stranger", ["http://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1.evil.example"]
)
def test_a_preflight_of_who_may_not(ask, stranger):
    _, headers, _ = ask("OPTIONS", ADD, origin=stranger, access__control__request__method="POST")
    assert "access-control-allow-origin" not in headers


def test_an_error_before_the_first_item_is_told_across_origins(ask, origin):
    _, headers, _ = ask("POST", ADD, b"\0\0\0\0\x04\x12\x02[]", content__type=GRPC_WEB, origin=origin)
    assert headers["grpc-status"] == "3"
    assert {"grpc-status", "grpc-message", "grpc-status-details-bin"} <= {
        *headers["access-control-expose-headers"].split(",")
    }


@pytest.mark.parametrize("path", ["/web.v1.WebService/Nothing", "/nothing.v1.Nothing/Nothing", "/"])
def test_what_is_not_there_is_unimplemented_across_origins(ask, origin, path):
    status, headers, _ = ask("POST", path, content__type=GRPC_WEB, origin=origin)
    assert (status, headers["grpc-status"], headers["access-control-allow-origin"]) == (200, "12", origin)


def test_what_is_refused(ask):
    assert ask("GET", ADD)[0] == 404
    assert ask("POST", "/web.v1.WebService%2fAdd", content__type=GRPC_WEB)[0] == 400
    assert ask("POST", ADD, content__type=GRPC_WEB, under_score="x")[0] == 400
    status, _, body = ask("POST", ADD, content__type="application/json")
    assert (status, b"not plain JSON" in body) == (415, True)
    assert ask("GET", "/stats")[0] == 404  # of Envoy's own admin interface


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "localhost.evil.example"])
def test_another_name_for_the_loopback_address_leads_nowhere(ask, host):
    """Or a page at that name could call, as if it were from here."""
    assert ask("POST", ADD, content__type=GRPC_WEB, host=host)[0] == 421


@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "127.0.0.1", "[::1]:80"])
def test_the_names_of_the_loopback_address(ask, host):
    assert ask("POST", ADD, content__type=GRPC_WEB, host=host)[0] == 200


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_one_of_two_servers_goes(tmp_path, stop):
    """What it hasn't begun goes to the other one: only the call that is on its way in that moment can be lost."""
    with ExitStack() as stack:
        servers = [stack.enter_context(grpc_server()) for _ in range(2)]
        gateway = Gateway(upstreams=tuple(address for _, address in servers))
        address = stack.enter_context(envoy_in_front(gateway, tmp_path))
        client = stack.enter_context(connect_sync(address, "web.v1.WebService"))
        eventually_sync(lambda: answers(client) == "OK")
        outcomes: Counter[str] = Counter()
        for number in range(600):
            if number == 100:
                servers[0][0].send_signal(stop)
            outcomes[answers(client)] += 1
        assert outcomes["OK"] >= 599, outcomes


def answers(client) -> str:
    try:
        assert client.call("add", 2, 3) == 5
    except CallError as error:
        return error.code.name
    return "OK"


def test_a_server_by_its_name(tmp_path):
    """Of which both addresses are tried: a server may listen on one of them only."""
    with grpc_server() as (_, address):
        by_name = address.replace("127.0.0.1", "localhost")
        with (
            envoy_in_front(Gateway(upstreams=(by_name,)), tmp_path) as gateway,
            connect_sync(gateway, "web.v1.WebService") as client,
        ):
            eventually_sync(lambda: answers(client) == "OK", within=10)

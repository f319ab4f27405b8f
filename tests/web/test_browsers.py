"""Chromium calls functions through Envoy, from another origin: over plain HTTP/1.1, and over TLS with HTTP/2."""

import json
import signal
import time
from itertools import pairwise

import pytest
from conftest import FIREFOX, Served, envoy_in_front, node, serving, site
from waiting import eventually_sync

from ephaptic_grpc.codegen.envoy import Gateway


@pytest.fixture(params=["plain", "tls", "without"])
def url(request) -> str:
    """Through Envoy, over plain HTTP/1.1 and over TLS; and with uvicorn in its place."""
    if request.param == "tls":
        return request.getfixturevalue("tls_url")
    return request.getfixturevalue("served" if request.param == "plain" else "without_envoy").web


@pytest.fixture
def serves(request, url, served) -> Served:
    """Who serves that URL."""
    return request.getfixturevalue("without_envoy") if request.node.callspec.params["url"] == "without" else served


def unary(page, url, rpc, *more):
    return page.evaluate("([url, rpc, ...more]) => ours.unary(url, rpc, ...more)", [url, rpc, *more])


def stream(page, url, rpc, *more):
    return page.evaluate("([url, rpc, ...more]) => ours.stream(url, rpc, ...more)", [url, rpc, *more])


def ended_at(served: Served, key: str) -> float:
    """When the function of a stream ended, in the page's milliseconds."""
    found: list[float] = []

    def has_ended() -> bool:
        found[:] = [float(line.rsplit(" ", 1)[1]) for line in served.lines() if line.rsplit(" ", 1)[0] == key]
        return bool(found)

    eventually_sync(has_ended)
    return found[0]


def test_values(page, url):
    assert unary(page, url, "Add", [2, 3])["items"] == [5]
    assert unary(page, url, "Place", {"order": {"item": "tea", "quantity": 2}})["items"] == ["2 x tea"]
    assert stream(page, url, "Count", {"to": 3})["items"] == [0, 1, 2]
    assert stream(page, url, "BlockingCount", {"to": 300})["items"] == [*range(300)]
    assert stream(page, url, "Count", {"to": 0}) == {"items": [], "times": [], "took": pytest.approx(0, abs=5000)}


def test_items_arrive_one_by_one(page, url):
    times = stream(page, url, "Count", {"to": 6, "seconds": 0.15})["times"]
    gaps = [after - before for before, after in pairwise(times)]
    assert len([gap for gap in gaps if gap > 75]) >= 4, times


@pytest.mark.parametrize("how", ["break", "stop", "error", "return"])
def test_leaving_ends_the_function(page, url, serves, how):
    """Within 100 ms where the machine has nothing else to do: the best of some tries."""
    took = []
    for attempt in range(5):
        key = f"{how} {url} {attempt}"
        left = page.evaluate("([url, key, how]) => ours.leave(url, key, how)", [url, key, how])
        took.append(ended_at(serves, key) - left)
        if took[-1] < 100:
            return
    raise AssertionError(f"milliseconds until 'finally': {took}")


def test_closing_the_page_ends_the_function(page, url, serves):
    key = f"closed {url}"
    page.evaluate("([url, key]) => ours.first(url, 'Forever', { key })", [url, key])
    page.close()
    assert ended_at(serves, key)


@pytest.mark.parametrize("how", ["unary", "stream"])
def test_bad_arguments_are_named(page, url, how):
    call = unary if how == "unary" else stream
    error = call(page, url, "Place", {"order": {"item": "coffee", "quantity": 0}})["error"]
    assert error["code"] == "INVALID_ARGUMENT"
    assert [violation["field"] for violation in error["violations"]] == ["order.item", "order.quantity"]
    assert error["violations"][0]["description"] == "String should have at most 5 characters"


def test_errors_before_and_after_items(page, url):
    assert unary(page, url, "Place", {"order": {"item": "fish"}})["error"] == {
        "code": "NOT_FOUND",
        "message": "no fish, 100% sure, ö",
        "details": [{"item": "fish"}],
        "violations": [],
    }
    for items in (0, 3):
        told = stream(page, url, "FailAfter", [items])
        assert told["items"] == [*range(items)]
        assert told["error"] == {
            "code": "ABORTED",
            "message": "enough",
            "details": [{"after": items}, {"item": "tea", "quantity": 1}],
            "violations": [],
        }
    assert unary(page, url, "Nothing", {})["error"]["code"] == "UNIMPLEMENTED"
    integer = unary(page, url, "Large", {})["error"]["message"]
    assert integer == "id is 9007199254740993, which a JavaScript number can't hold"


@pytest.mark.parametrize("path", ["grpc.health.v1.Health/Check", "web.v1.Other/Add", "unimplemented/x", ""])
def test_what_is_not_exposed_is_unimplemented(page, url, path):
    assert unary(page, url, f"../{path}", {})["error"]["code"] == "UNIMPLEMENTED"


def test_deadlines(page, url, serves):
    told = unary(page, url, "Sleep", {"seconds": 30}, {"timeoutMs": 300})
    assert told["error"]["code"] == "DEADLINE_EXCEEDED"
    key = f"deadline {url}"
    told = stream(page, url, "Forever", {"key": key}, {"timeoutMs": 500})
    assert told["items"][:3] == [0, 1, 2]
    assert told["error"]["code"] == "DEADLINE_EXCEEDED"
    assert ended_at(serves, key)
    assert 0 < unary(page, url, "Sleep", {"seconds": 0}, {"timeoutMs": 9000})["items"][0] <= 9  # the server knows it


def test_headers(page, either, tls_url):
    assert unary(page, either.web, "Header", ["x-tenant"], {"headers": {"x-tenant": "a"}})["items"] == ["a"]
    told = unary(page, either.web, "Header", ["authorization"], {}, {"headers": {"authorization": "Bearer t"}})
    assert told["items"] == ["Bearer t"]
    # One that the gateway doesn't name is not let through by the browser.
    assert unary(page, tls_url, "Header", ["x"], {"headers": {"x-other": "a"}})["error"]["code"] == "UNAVAILABLE"


def test_twenty_streams_at_the_same_time(page, tls_url):
    assert page.evaluate("url => ours.many(url, 20)", tls_url) == 20


def test_more_calls_one_after_the_other_than_a_browser_has_connections(page, url):
    """A call that has ended leaves its connection to the next one."""
    script = """async (url) => {
        let ended = 0;
        for (let call = 0; call < 20; call++) {
            for (const [rpc, args] of [["Count", [2]], ["FailAfter", [1]], ["Place", [{ item: "fish" }]]]) {
                await ours.stream(url, rpc, args);
                ended++;
            }
        }
        return ended;
    }"""
    assert page.evaluate(script, url) == 60


def test_an_unknown_origin_gets_nothing(open_page, pages, url):
    with site(pages) as unknown:
        page = open_page(unknown)
        page.wait_for_function("window.ours")
        for told in (unary(page, url, "Add", [2, 3]), stream(page, url, "Count", [3])):
            assert told["items"] == []
            assert told["error"]["code"] == "UNAVAILABLE"


def test_a_worker(page, url):
    assert page.evaluate("url => ours.worker(url)", url) == [0, 1, 2]


@pytest.mark.parametrize(("url", "streams"), [("tls", 20), ("without", 6)], indirect=["url"])
def test_firefox(origin, url, serves, streams):
    told = json.loads(node("node", "firefox.mjs", FIREFOX, origin, url, str(streams)))
    assert told["version"].startswith("firefox/")
    assert told["add"]["items"] == [5]
    assert told["count"]["items"] == [*range(5)]
    assert told["count"]["times"][-1] - told["count"]["times"][0] > 300
    assert told["failing"]["items"] == [0, 1]
    assert told["failing"]["error"]["code"] == "ABORTED"
    assert told["fish"]["error"]["details"] == [{"item": "fish"}]
    assert told["deadline"]["error"]["code"] == "DEADLINE_EXCEEDED"
    assert told["many"] == streams
    assert ended_at(serves, "firefox")
    assert ended_at(serves, "firefox stop")


def test_a_large_stream_arrives_whole(page, url):
    told = page.evaluate(
        "async url => { const told = await ours.stream(url, 'Burst', [20000]);"
        " return [told.items.length, told.items.every((item, index) => item.number === index), told.error] }",
        url,
    )
    assert told == [20000, True, None]


def begin(page, url: str) -> None:
    """Read an endless stream; its first item has arrived."""
    page.evaluate("url => ours.first(url, 'Forever', { key: 'lost' })", url)


def outcome(page, since: float) -> dict:
    """How that stream ended: within 2 s, and never as if it were complete."""
    page.wait_for_function("ours.outcome", timeout=10_000)
    told = page.evaluate("ours.outcome")
    assert told["items"][0] == 0
    assert page.evaluate("ours.ended") - since < 2000
    return told


@pytest.mark.parametrize("what", ["server", "server and Envoy"])
def test_a_server_that_is_killed_is_unavailable(page, origin, tmp_path, what):
    with (
        serving("web_service", tmp_path, "--origin", origin) as served,
        envoy_in_front(Gateway(upstreams=(served.grpc,), origins=(origin,)), tmp_path) as alone,
    ):
        url = f"http://{alone}" if what == "server" else served.web
        begin(page, url)
        since = time.time() * 1000
        served.process.kill()
        served.process.wait()
        assert outcome(page, since)["error"]["code"] == "UNAVAILABLE"
        told = unary(page, url, "Add", [2, 3])  # which is not there now
        assert told["error"]["code"] == "UNAVAILABLE"
        assert told["took"] < 2000


@pytest.mark.parametrize("edge", [[], ["--without-envoy"]], ids=["envoy", "without"])
def test_a_server_that_drains_is_unavailable(page, origin, tmp_path, edge):
    with serving("web_service", tmp_path, "--origin", origin, *edge) as served:
        begin(page, served.web)
        served.process.terminate()
        eventually_sync(lambda: unary(page, served.web, "Add", [2, 3]).get("error", {}).get("code") == "UNAVAILABLE")
        since = time.time() * 1000
        served.process.terminate()  # a second one ends the grace
        assert outcome(page, since)["error"]["code"] == "UNAVAILABLE"
        assert served.process.wait(15) == 0


@pytest.mark.parametrize("call", [("Quiet", [60]), ("Forever", ["never quiet"])], ids=["quiet", "busy"])
def test_a_server_that_falls_silent_is_unavailable(page, origin, tmp_path, call):
    """It has stopped, and its connection is still there: only the missing signs of life tell."""
    with serving("web_service", tmp_path, "--origin", origin) as served:
        arguments = [served.web, *call, {}, {"heartbeatMs": 100}]
        page.evaluate("([...all]) => ours.first(...all)", arguments)
        page.wait_for_timeout(500)  # some signs of life, or of items
        assert page.evaluate("ours.outcome") is None
        served.process.send_signal(signal.SIGSTOP)
        try:
            page.wait_for_function("ours.outcome", timeout=10_000)
        finally:
            served.process.send_signal(signal.SIGCONT)
        error = page.evaluate("ours.outcome.error")
        assert (error["code"], error["message"]) == ("UNAVAILABLE", "the server has fallen silent")
        page.close()  # or the drain waits for what is still open


def test_no_server_is_unavailable(page, tmp_path, origin):
    with envoy_in_front(Gateway(upstreams=("127.0.0.1:1",), origins=(origin,)), tmp_path) as alone:
        for told in (unary(page, f"http://{alone}", "Add", [2, 3]), stream(page, f"http://{alone}", "Count", [3])):
            assert told["error"]["code"] == "UNAVAILABLE"
            assert told["took"] < 2000
    assert unary(page, f"http://{alone}", "Add", [2, 3])["error"]["code"] == "UNAVAILABLE"

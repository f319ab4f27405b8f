"""Other people's clients call the same server: connect-web, Google's grpc-web, buf, grpc-js; and ours in Node."""

import json
import os
import subprocess

import pytest
from conftest import HERE, node
from waiting import eventually_sync

BUF = HERE / "node_modules/.bin/buf"


def test_connect_web(page, either):
    def call(method, args):
        return page.evaluate("([...all]) => connectWeb(...all)", [either.web, method, args])

    assert call("add", [2, 3])["items"] == [5]
    told = call("count", {"to": 5, "seconds": 0.1})
    assert told["items"] == [*range(5)]
    assert told["times"][-1] - told["times"][0] > 200
    assert call("place", {"order": {"item": "fish"}})["error"] == {
        "code": "NotFound",
        "message": "no fish, 100% sure, ö",
        "details": 1,
        "violations": [],
    }
    told = call("failAfter", {"items": 2})
    assert told["items"] == [0, 1]
    assert (told["error"]["code"], told["error"]["details"]) == ("Aborted", 2)


def test_grpc_web_by_google(page, either):
    def call(rpc, args, streams):
        return page.evaluate("([...all]) => googles(...all)", [either.web, rpc, args, streams])

    assert call("Add", [2, 3], False)["items"] == [5]
    told = call("Count", {"to": 5, "seconds": 0.1}, True)
    assert told["items"] == [*range(5)]
    assert told["times"][-1] - told["times"][0] > 200
    told = call("Place", {"order": {"item": "fish"}}, False)
    assert (told["error"]["code"], told["error"]["details"]) == ("5", 1)
    told = call("FailAfter", {"items": 2}, True)
    assert told["items"] == [0, 1]
    assert told["error"]["code"] == "10"


@pytest.fixture
def buf(either, descriptors):
    def call(rpc: str, args: object) -> subprocess.CompletedProcess[str]:
        data = json.dumps({"json": json.dumps(args)})
        url = f"{either.web}/web.v1.WebService/{rpc}"
        command = [BUF, "curl", "--protocol", "grpcweb", "--schema", descriptors, "--data", data, url]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=descriptors.parent)

    return call


def test_buf_curl(buf):
    assert json.loads(buf("Add", [2, 3]).stdout) == {"json": "5"}
    assert "".join(buf("Count", {"to": 3}).stdout.split()) == '{"json":"0"}{"json":"1"}{"json":"2"}'
    failed = buf("Place", {"order": {"item": "fish"}})
    assert failed.returncode != 0
    assert json.loads(failed.stderr)["code"] == "not_found"
    assert json.loads(failed.stderr)["details"][0]["type"] == "ephaptic_grpc.v1.Payload"


def test_grpc_js_straight_to_the_server(served, descriptors):
    assert json.loads(node("node", "grpcjs.mjs", served.grpc, descriptors.parent)) == {
        "add": 5,
        "fish": {"code": 5, "message": "no fish, 100% sure, ö", "details": 1},
        "count": [0, 1, 2],
        "failing": [0, 1, {"code": 10, "message": "enough"}],
    }


def test_the_runtime_in_node(either, tmp_path):
    program = tmp_path / "node_client.mjs"
    bundle = ["--bundle", "--platform=node", "--format=esm", f"--outfile={program}"]
    node("node_modules/.bin/esbuild", "node_client.ts", *bundle)
    told = json.loads(node("node", "--expose-gc", program, either.web, "node"))
    assert told == {"sum": 5, "first": [*range(6)], "ended": "CANCELLED"}
    eventually_sync(lambda: any(line.startswith("node ") for line in either.lines()))


def test_the_runtime_alone():
    """Every way of cutting an answer, every kind of error, and the size: tests/web/runtime.test.ts."""
    node("node_modules/.bin/tsc", "--noEmit")
    print(node("node_modules/.bin/vitest", "run", env={**os.environ, "NO_COLOR": "1"}))

"""The app itself, and how it becomes a part of a FastAPI app."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from ephaptic_grpc import Service, current_call
from ephaptic_grpc.asgi import WebApp, web_app

shop = Service("shop.v1.ShopService")


class Order(BaseModel):
    item: str


@shop.expose
async def place(order: Order) -> int:
    """Take an order."""
    return len(order.item)


@shop.expose
async def deliveries(how: str) -> AsyncIterator[int]:
    yield 1
    if how == "crash":
        raise RuntimeError("secret")
    if how == "stray":
        raise asyncio.CancelledError
    await asyncio.sleep(60)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"origins": ["*"]}, "an origin is exactly what browsers send"),
        ({"origins": ["https://app.example.com/"]}, "an origin is exactly what browsers send"),
        ({"headers": ["X-Tenant"]}, "in lower case"),
    ],
)
def test_what_is_no_origin_or_header_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        web_app(shop, **options)


def test_what_is_no_service_is_refused():
    with pytest.raises(TypeError, match="not <function"):
        web_app(place)
    with pytest.raises(ValueError, match="one service of a name"):
        web_app(shop, shop)
    with pytest.raises(TypeError, match="include_in_docs takes the FastAPI app"):
        web_app(shop, include_in_docs=True)


@pytest.mark.anyio
async def test_the_functions_are_in_the_docs_of_the_app_that_it_is_mounted_in(caplog):
    class Order(BaseModel):  # another one of that name
        amount: int

    app = FastAPI()
    rpc = web_app(shop, include_in_docs=app)

    @app.post("/orders")
    async def take(order: Order) -> int:
        return order.amount

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        assert [*(await client.get("/openapi.json")).json()["paths"]] == ["/orders"]
        assert "the docs of a FastAPI app leave out shop.v1.ShopService" in caplog.text
        caplog.clear()
        app.mount("/rpc", rpc)
        app.openapi_schema = None
        document = (await client.get("/openapi.json")).json()
        assert (await client.get("/openapi.json")).json() == document
        assert (await client.post("/rpc/shop.v1.ShopService/Place", json=[{"item": "tea"}])).json() == 3
    assert [*document["paths"]] == ["/orders", "/rpc/shop.v1.ShopService/Place", "/rpc/shop.v1.ShopService/Deliveries"]
    assert not caplog.records
    operation = document["paths"]["/rpc/shop.v1.ShopService/Place"]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert operation["summary"] == "Take an order."
    assert "description" not in operation  # which would say the same again
    assert body["properties"] == {"order": {"$ref": "#/components/schemas/shop.v1.ShopService.Order"}}
    schemas = document["components"]["schemas"]
    assert [*schemas["Order"]["properties"]] == ["amount"]
    assert [*schemas["shop.v1.ShopService.Order"]["properties"]] == ["item"]


@pytest.mark.anyio
@pytest.mark.parametrize("prefix", ["", "/v1", "/v1/rpc"])
async def test_it_is_mounted_anywhere(prefix):
    app: FastAPI | WebApp = web_app(shop)
    for name in reversed(prefix.split("/")[1:] or [""]):
        outer = FastAPI()
        outer.mount(f"/{name}" if name else "", app)
        app = outer
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        assert (await client.post(f"{prefix}/shop.v1.ShopService/Place", json=[{"item": "tea"}])).json() == 3
        answer = await client.get(f"{prefix}/shop.v1.ShopService/Place")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert (await client.post(f"{prefix}/shop.v1.ShopService/Place/", json=[])).status_code == 404
        assert (await client.post("/other/shop.v1.ShopService/Place", json=[])).status_code == 404


@pytest.mark.anyio
@pytest.mark.once
async def test_a_page_of_its_own_may_call_however_its_host_is_written():
    """As proxies do: with the port that is implied, with capitals."""
    transport = httpx.ASGITransport(web_app(shop))
    for url, hosts, strangers in (
        (
            "https://app.example.com",
            ["app.example.com", "app.example.com:443", "App.Example.com"],
            [":80", ":8443", "."],
        ),
        ("http://app.example.com", ["app.example.com:80", "APP.EXAMPLE.COM:80"], [":443", ":8080", ":"]),
        ("http://app.example.com:8080", ["App.example.com:8080"], ["", ":80"]),
    ):
        async with httpx.AsyncClient(transport=transport, base_url=url) as client:
            for host in (*hosts, *(f"app.example.com{rest}" for rest in strangers)):
                headers = {"host": host, "origin": url}
                answer = await client.post("/shop.v1.ShopService/Place", json=[{"item": "x"}], headers=headers)
                assert answer.status_code == (200 if host in hosts else 403), host


@pytest.mark.anyio
async def test_what_is_no_request_of_http():
    """A WebSocket is refused; a server that wants to start the app, and to stop it, may."""
    sent: list[dict] = []

    async def send(message):
        sent.append(message)

    asked = iter(("lifespan.startup", "lifespan.shutdown"))

    async def receive():
        return {"type": next(asked)}

    app = web_app(shop)
    await app({"type": "websocket", "path": "/shop.v1.ShopService/Place", "headers": []}, receive, send)
    await app({"type": "lifespan"}, receive, send)
    assert [message["type"] for message in sent] == [
        "websocket.close",
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


@pytest.mark.anyio
async def test_a_call_is_over_when_its_answer_is():
    """In a task that outlives it, too."""
    transport = httpx.ASGITransport(web_app(shop))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        assert (await client.post("/shop.v1.ShopService/Place", json=[{"item": "x"}])).json() == 1
        with pytest.raises(LookupError):
            current_call()


@pytest.mark.anyio
async def test_it_stops():
    app = web_app(shop)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        await app.stop()
        answer = await client.post("/shop.v1.ShopService/Place", json=[{"item": "x"}])
    assert (answer.status_code, answer.json()["code"]) == (503, 14)
    assert "draining" in answer.json()["message"]
    assert answer.json()["details"][0]["reason"] == "DRAINING"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("how", "code"),
    [("crash", 13), ("stray", 13), ("deadline", 4), ("stop", 14), ("cancelled by the server", 1)],
)
@pytest.mark.parametrize("events", [False, True])
async def test_a_stream_says_how_it_failed_whatever_ended_it(how, code, events):
    app = web_app(shop)
    sent: asyncio.Queue[dict] = asyncio.Queue()
    asked = asyncio.Queue()
    asked.put_nowait({"type": "http.request", "body": json.dumps([how]).encode()})
    headers = [(b"content-type", b"application/json")]
    headers += [(b"accept", b"text/event-stream")] if events else []
    headers += [(b"grpc-timeout", b"1S")] if how == "deadline" else []
    scope = {"type": "http", "method": "POST", "path": "/shop.v1.ShopService/Deliveries", "headers": headers}
    task = asyncio.create_task(app(scope, asked.get, sent.put))
    assert (await sent.get())["status"] == 200
    assert b"1" in (await sent.get())["body"]
    if how == "stop":
        await app.stop()
    elif how == "cancelled by the server":
        task.cancel()
    await asyncio.wait([task])
    *_, last = [sent.get_nowait() for _ in range(sent.qsize())]
    assert not last["more_body"]
    line = last["body"].decode()
    assert line.startswith('event: error\ndata: {"code":' if events else ' {"error":{"code":')
    assert f'"code":{code},' in line
    assert "secret" not in line
    assert task.cancelled() == (how == "cancelled by the server")


def test_the_package_needs_none_of_it():
    """Starlette is not imported, and who asks for the app without it is told what to install."""
    program = """
import sys
import ephaptic_grpc, ephaptic_grpc.cli
assert not {"starlette", "uvicorn", "fastapi"} & {*sys.modules}
sys.modules["starlette"] = None
try:
    import ephaptic_grpc.asgi
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.stdout == "ephaptic_grpc.asgi needs Starlette: pip install 'ephaptic-grpc[asgi]'\n", done.stderr


@pytest.mark.anyio
async def test_a_call_that_the_grace_is_too_short_for_is_told_why():
    waiting = Service("shop.v1.WaitingService")
    begun = asyncio.Event()

    @waiting.expose
    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    app = web_app(waiting)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        call = asyncio.create_task(client.post("/shop.v1.WaitingService/Wait", json=[]))
        await begun.wait()
        await app.stop(0.01)
        answer = await call
    assert answer.status_code == 503
    assert answer.json()["details"][0]["reason"] == "DRAINING"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"limits": {"calls": 5}}, "limits is a Limits"),
        ({"origins": "https://a.b"}, r"origins is a list, such as \['https://a.b'\], not a text"),
        ({"headers": "x-tenant"}, r"headers is a list, such as \['x-tenant'\], not a text"),
    ],
)
def test_what_makes_no_sense_is_refused(given, said):
    with pytest.raises(TypeError, match=said):
        web_app(Service("a.v1.A"), **given)

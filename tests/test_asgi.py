"""The app itself, and how it becomes a part of a FastAPI app."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from ephaptic_grpc import Service, current_call
from ephaptic_grpc.asgi import web_app

shop = Service("shop.v1.ShopService")


class Order(BaseModel):
    item: str


@shop.expose
async def place(order: Order) -> int:
    """Take an order."""
    return len(order.item)


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
async def test_the_functions_are_in_the_docs_of_the_app_that_it_is_mounted_in():
    class Order(BaseModel):  # another one of that name
        amount: int

    app = FastAPI()
    rpc = web_app(shop, include_in_docs=app)

    @app.post("/orders")
    async def take(order: Order) -> int:
        return order.amount

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        assert [*(await client.get("/openapi.json")).json()["paths"]] == ["/orders"]
        app.mount("/rpc", rpc)
        app.openapi_schema = None
        document = (await client.get("/openapi.json")).json()
        assert (await client.get("/openapi.json")).json() == document
        assert (await client.post("/rpc/shop.v1.ShopService/Place", json=[{"item": "tea"}])).json() == 3
    assert [*document["paths"]] == ["/orders", "/rpc/shop.v1.ShopService/Place"]
    operation = document["paths"]["/rpc/shop.v1.ShopService/Place"]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert operation["summary"] == "Take an order."
    assert body["properties"] == {"order": {"$ref": "#/components/schemas/shop.v1.ShopService.Order"}}
    schemas = document["components"]["schemas"]
    assert [*schemas["Order"]["properties"]] == ["amount"]
    assert [*schemas["shop.v1.ShopService.Order"]["properties"]] == ["item"]


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

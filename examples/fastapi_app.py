"""One FastAPI app, with gRPC on a port of its own, and browsers and plain HTTP on the app's.

    uvicorn examples.fastapi_app:app --timeout-graceful-shutdown 5

HTTP is on uvicorn's port, gRPC on 50051 or that of GRPC_PORT; the functions are in /docs, too. All stop together.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from pydantic import BaseModel

from ephaptic_grpc import Server, Service
from ephaptic_grpc.asgi import web_app

orders = Service("orders.v1.OrdersService")


class Order(BaseModel):
    """What somebody wants to have."""

    item: str
    quantity: int = 1


taken: list[Order] = []


@orders.expose
async def place(order: Order) -> int:
    """Take an order; its number comes back."""
    taken.append(order)
    return len(taken)


@orders.expose
async def history() -> AsyncIterator[Order]:
    """Every order so far."""
    for order in taken:
        yield order


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with Server(orders, port=int(os.environ.get("GRPC_PORT", "50051"))):
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/rpc", web_app(orders, include_in_docs=app))


@app.get("/orders")
async def list_orders() -> list[Order]:
    """Every order, wherever it came from."""
    return taken

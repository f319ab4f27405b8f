"""gRPC beside an existing FastAPI app, in one process and on one event loop.

    uvicorn examples.fastapi_app:app

HTTP is on uvicorn's port, gRPC on 50051 or that of GRPC_PORT. Both stop together.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from pydantic import BaseModel

from ephaptic_grpc import Server, Service

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


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with Server(orders, port=int(os.environ.get("GRPC_PORT", "50051"))):
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/orders")
async def list_orders() -> list[Order]:
    """Every order that came over gRPC."""
    return taken

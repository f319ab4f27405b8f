"""One FastAPI app, with gRPC on a port of its own, and browsers and plain HTTP on the app's.

    uvicorn examples.fastapi_app:app --timeout-graceful-shutdown 7

HTTP is on uvicorn's port, gRPC on 50051 or that of GRPC_PORT; the functions are in /docs, too. All stop together: from
the signal on, calls have GRACE seconds, whichever way they came. uvicorn's own time has to be longer: what is left by
then, it cancels without telling the callers why.
"""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType
from typing import Final

from fastapi import FastAPI
from pydantic import BaseModel

from ephaptic_grpc import Server, Service
from ephaptic_grpc.asgi import web_app

GRACE: Final = 5.0

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
    async with Server(orders, port=int(os.environ.get("GRPC_PORT", "50051")), grace=GRACE) as server:
        drain_on_signals(server)
        yield


def drain_on_signals(server: Server) -> None:
    """Drain gRPC and HTTP at once when a signal comes. Without that uvicorn first waits for HTTP, and then ends the
    lifespan, where gRPC's own grace begins: the times add up.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # in a test, say: no signal comes
    loop, drains = asyncio.get_running_loop(), set[asyncio.Future[None]]()
    uvicorns = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def drain() -> None:
        drains.update(map(asyncio.ensure_future, (server.stop(), rpc.stop(GRACE))))

    def on_signal(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(drain)
        if callable(handler := uvicorns[signal.Signals(number)]):
            handler(number, frame)

    for number in uvicorns:
        signal.signal(number, on_signal)


app = FastAPI(lifespan=lifespan)
rpc = web_app(orders, include_in_docs=app)
app.mount("/rpc", rpc)


@app.get("/orders")
async def list_orders() -> list[Order]:
    """Every order, wherever it came from."""
    return taken

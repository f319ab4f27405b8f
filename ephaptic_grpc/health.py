"""The standard health service, for a server that drains: what watches it is told, and then sent away."""

import asyncio
from typing import Any, Final, cast

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio  # pyright: ignore[reportAttributeAccessIssue]  a variable

_TELLING_SECONDS: Final = 0.1
"""What watchers have to hear of the drain, at most. A watch has no end of its own: it would last the whole grace."""


class Health:
    """``grpc.health.v1.Health``: SERVING for the server and for each service, until it drains."""

    def __init__(self) -> None:
        self._servicer = aio.HealthServicer()
        self._watchers: set[asyncio.Task[Any]] = set()
        self._draining = False

    async def serve(self, service: str) -> None:
        """Say SERVING for a service."""
        await self._servicer.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        """Say NOT_SERVING for everything, from now on."""
        self._draining = True
        await self._servicer.enter_graceful_shutdown()

    async def dismiss(self, stopped: "asyncio.Future[None]") -> None:
        """End every watch, once those who watch had a moment to hear of the drain, or the server has ``stopped``."""
        await asyncio.wait((stopped,), timeout=_TELLING_SECONDS)
        for watcher in self._watchers:
            watcher.cancel()

    def handler(self) -> grpc.GenericRpcHandler:
        """The service, for grpc.aio."""
        request = health_pb2.HealthCheckRequest.FromString
        response = health_pb2.HealthCheckResponse.SerializeToString
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(self._servicer.Check, request, response),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch, request, response),
        }
        return grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods)

    async def _watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._watchers.add(task)
        try:
            await self._servicer.Watch(request, context)
        except asyncio.CancelledError:
            if not self._draining:
                raise
        finally:
            self._watchers.discard(task)

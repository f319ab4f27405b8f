"""The standard health service, for a server that drains: what watches it is told, and then sent away.

Not that of grpcio-health-checking: there a watcher that doesn't read holds a lock that draining needs, and what is no
request is told to its sender in Python's words.
"""

import asyncio
from typing import Any, Final, cast

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from ephaptic_grpc import limits

_TELLING_SECONDS: Final = 0.1
"""What watchers have to hear of the drain, at most. A watch has no end of its own: it would last the whole grace."""

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN: Final = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """``grpc.health.v1.Health``: SERVING for the server and for each service, until it drains."""

    def __init__(self) -> None:
        self._statuses: dict[str, Any] = {"": _SERVING}
        self._watchers: set[asyncio.Task[Any]] = set()
        self._drained: Final = asyncio.Event()

    def serve(self, service: str) -> None:
        """Say SERVING for a service. Before anybody can ask: who watches already isn't told."""
        self._statuses[service] = _SERVING

    def drain(self) -> None:
        """Say NOT_SERVING for everything, from now on."""
        self._statuses = dict.fromkeys(self._statuses, _NOT_SERVING)
        self._drained.set()

    async def dismiss(self, stopped: "asyncio.Future[None]") -> None:
        """End every watch, once those who watch had a moment to hear of the drain, or the server has ``stopped``."""
        await asyncio.wait((stopped,), timeout=_TELLING_SECONDS)
        for watcher in self._watchers:
            watcher.cancel()

    def handler(self) -> grpc.GenericRpcHandler:
        """The service, for grpc.aio."""
        # No deserialiser: what it raises, grpc.aio would tell the caller.
        methods: dict[str, Any] = {
            "Check": grpc.unary_unary_rpc_method_handler(self._check),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
        }
        return grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods)

    async def _check(self, message: bytes, context: Any) -> bytes:
        status = self._statuses.get(await _service(message, context))
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=status).SerializeToString()

    async def _watch(self, message: bytes, context: Any) -> None:
        service = await _service(message, context)
        if len(self._watchers) >= limits.STANDARD_STREAMS:
            text = f"{len(self._watchers)} watch already: ask by Check"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._watchers.add(task)
        try:
            told = None
            for changes in (self._drained, asyncio.Event()):  # once it drains, nothing changes any more
                status = self._statuses.get(service, _SERVICE_UNKNOWN)
                if status != told:
                    await context.write(health_pb2.HealthCheckResponse(status=status).SerializeToString())
                    told = status
                await changes.wait()
        except asyncio.CancelledError:
            if not self._drained.is_set():
                raise
        finally:
            self._watchers.discard(task)


async def _service(message: bytes, context: Any) -> str:
    """The service that a request asks about."""
    try:
        return health_pb2.HealthCheckRequest.FromString(message).service
    except DecodeError:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the message is not a HealthCheckRequest")
        raise

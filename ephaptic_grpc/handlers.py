"""What grpc.aio runs: a handler for each procedure, found by its exact path, and the calls that they serve."""

from __future__ import annotations  # grpc's classes are generic for type checkers only

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Never

import grpc

from ephaptic_grpc import invoke
from ephaptic_grpc.call import Call, PeerIdentity, enter_call
from ephaptic_grpc.edge import LATE, Calls, failure
from ephaptic_grpc.errors import Status
from ephaptic_grpc.limits import Limits
from ephaptic_grpc.payload import KIND_ASKED, KIND_STREAM, Delivery, arguments, pack
from ephaptic_grpc.pipe import Write
from ephaptic_grpc.procedure import Procedure
from ephaptic_grpc.threads import Threads

_CANCELLING_SECONDS: Final = 0.1
"""How long a write that failed waits for the cancellation that follows, at most."""

_LEFT: Final = re.compile(r"ExecuteBatchError raised in core by servicer method \[(.*)\]")

_AGAIN_SECONDS: Final = 0.05
"""How long a call whose task is being cancelled already is left alone, before it is interrupted."""

_NOT_AGAIN: Final = ("grpc-retry-pushback-ms", "-1")
"""Tells gRPC's clients not to make a call again: its function has run, and it is its answer that failed."""

_SKEW_SECONDS: Final = 0.05
"""By how much a caller may see its deadline pass before the server does."""

if TYPE_CHECKING:
    _Context = grpc.aio.ServicerContext[bytes, bytes]


class Paths(grpc.GenericRpcHandler):
    """One look-up by the exact path. grpc.aio slows down with each handler that is registered instead."""

    def __init__(self, paths: dict[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        self._paths: Final = paths

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep out of the log that a caller has left, or refused, a reply on its way: gRPC takes it for an error of the
        server's, with a traceback for each. Streams hear of it by themselves.
        """
        found = _LEFT.fullmatch(str(record.msg))
        return found is None or found[1] not in self._paths

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        return self._paths.get(handler_call_details.method)


class Rpc(Call):
    """A call that the server can end.

    Attributes:
        task: that of the function, until it has ended.
        telling: tells the caller of an interrupted call; None for one that wasn't.
    """

    __slots__ = ("_opening", "_sending", "_timer", "_waiting", "task", "telling")

    _transport: _Context

    def __init__(self, procedure: Procedure, context: _Context) -> None:
        self.procedure = procedure
        self._transport = context
        self._metadata = None
        self.task = asyncio.current_task()
        self.telling: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._opening = False
        self._sending: asyncio.Future[object] | None = None
        self._waiting: Status | None = None

    async def open(self, sending: Awaitable[object]) -> None:
        """Wait until what is sent first has left. While it is on its way, gRPC takes no status."""
        self._opening = True
        if self._timer is None:
            await sending
        else:  # apart from the function: it has to end in time even where its caller never reads
            self._sending = asyncio.ensure_future(sending)
            await asyncio.shield(self._sending)
            self._sending = None
        self._opening = False
        if self._waiting is not None:
            self.interrupt(self._waiting)

    def remaining(self) -> float | None:
        if self._timer is None:
            return super().remaining()
        return max(self._timer.when() - asyncio.get_running_loop().time(), 0.0)

    def bound(self, limits: Limits) -> None:
        """Give the call the deadline that it has by the server's limits, where that is before its caller's."""
        seconds = limits.deadline(super().remaining())
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.interrupt, LATE)

    def unbound(self) -> None:
        """Forget that deadline, the function having ended."""
        if self._timer is not None:
            self._timer.cancel()

    def interrupt(self, status: Status) -> asyncio.Task[None] | None:
        """End the call now: tell its caller, and cancel its function, which may take its time to clean up."""
        if self._opening and self._sending is None:
            self._waiting = self._waiting or status
        elif self.telling is None and self.task is not None:
            loop = self.task.get_loop()
            if self.task.cancelling():
                # Its caller has left, and it is about to end. Or a timeout of the function's own has just passed, of
                # which the function will make something else: then it goes on, and must not go on for ever.
                loop.call_later(_AGAIN_SECONDS, self.interrupt, status)
            else:
                self.telling = loop.create_task(self._tell(status))
                self.task.cancel()
        return self.telling

    async def _tell(self, status: Status) -> None:
        if self._sending is not None:
            await asyncio.wait((self._sending,))
            if self._sending.cancelled() or self._sending.exception() is not None:
                return  # there is nobody to be told: the call is over
        if self._transport.done():
            return  # the call has ended by itself
        with suppress(grpc.aio.BaseError, asyncio.InvalidStateError):  # the first is how it always ends
            await self._transport.abort(status.code, status.message, status.trailing_metadata)

    async def fail(self, error: BaseException) -> Never:
        """End the call with the status that an exception means; always raises."""
        if self.telling is not None:  # what the function did meanwhile is logged only
            if not isinstance(error, asyncio.CancelledError):
                failure(error, self)
            raise asyncio.CancelledError
        task, context = self.task, self._transport
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            # The call was cancelled, and nobody is there to be told. Or the function cancelled its own task: somebody
            # is. Where it can't be so, nothing is sent: what is sent in a call that is over, gRPC never frees.
            if self._can_cancel_itself():
                with suppress(grpc.aio.BaseError):
                    await context.abort(grpc.StatusCode.CANCELLED, "the function cancelled itself")
            raise error
        status = failure(error, self)
        trailing: tuple[tuple[str, str | bytes], ...] = status.trailing_metadata
        if self.procedure.idempotent:
            trailing += (_NOT_AGAIN,)
        aborting = context.abort(status.code, status.message, trailing)
        # gRPC's side of the call holds what that raises, and so the frames that it comes through, and what was raised
        # before. None of it must hold gRPC's side, or they, and the request, would wait for the garbage collector.
        del self, task, context, error
        try:
            await aborting
        except BaseException as aborted:
            aborted.__context__ = None
            raise
        raise AssertionError("gRPC's abort always raises")

    def _can_cancel_itself(self) -> bool:
        """Whether it can have been the function: it runs in the task of the call, whose time is not over."""
        procedure, remaining = self.procedure, self.remaining()
        return not (procedure.streams or procedure.threaded) and (remaining is None or remaining > _SKEW_SECONDS)


class IdentifiedRpc(Rpc):
    """A call of who may have proved who they are."""

    __slots__ = ("_told",)

    def __init__(self, procedure: Procedure, context: _Context) -> None:
        super().__init__(procedure, context)
        # Not when it is asked for: where the call is over by then, in a thread that outlives it, gRPC crashes.
        self._told = context.auth_context()

    @property
    def peer_identity(self) -> PeerIdentity | None:
        return PeerIdentity.of(self._told)


def method_handler(
    procedure: Procedure, threads: Threads, calls: Calls[Rpc], limits: Limits, rpc: type[Rpc]
) -> grpc.RpcMethodHandler[Any, Any]:
    """What grpc.aio runs for a procedure, under the server's limits; ``rpc`` is made for each call."""
    limits = limits.of(procedure.limits)
    # No (de)serialisers: what they raise, grpc.aio would tell the caller.
    if procedure.streams:
        return grpc.unary_stream_rpc_method_handler(_stream_handler(procedure, threads, calls, limits, rpc))
    return grpc.unary_unary_rpc_method_handler(_unary_handler(procedure, threads, calls, limits, rpc))


def _unary_handler(
    procedure: Procedure, threads: Threads, calls: Calls[Rpc], limits: Limits, rpc: type[Rpc]
) -> Callable[[bytes, _Context], Awaitable[bytes]]:
    run = invoke.unary(procedure, threads, limits)
    request_bytes, bounded = limits.request_bytes, limits.bounds_time

    async def handle(message: bytes, context: _Context) -> bytes:
        call = rpc(procedure, context)
        try:
            calls.enter(call)
            enter_call(call)
            if bounded:
                call.bound(limits)
            reply = pack(await run(arguments(message, request_bytes)))
            if call.telling is not None:
                raise asyncio.CancelledError  # it was interrupted, which its function made nothing of
        except BaseException as error:
            await call.fail(error)
        finally:
            calls.discard(call)
            call.task = None  # whose context holds this call: together they would wait for the garbage collector
            if bounded:
                call.unbound()
            del call, context  # see Rpc.fail
        return reply

    return handle


def _stream_handler(
    procedure: Procedure, threads: Threads, calls: Calls[Rpc], limits: Limits, rpc: type[Rpc]
) -> Callable[[bytes, _Context], Awaitable[None]]:
    run = invoke.stream(procedure, threads, limits)
    request_bytes, bounded = limits.request_bytes, limits.bounds_time

    async def handle(message: bytes, context: _Context) -> None:
        call = rpc(procedure, context)
        try:
            calls.enter(call)
            enter_call(call)
            if bounded:
                call.bound(limits)
            metadata = context.invocation_metadata() or ()
            if KIND_ASKED in metadata:
                await call.open(context.send_initial_metadata((KIND_STREAM,)))
            json = arguments(message, request_bytes)
            await run(json, _sender(call, context), call.interrupt, Delivery.asked(metadata))
            if call.telling is not None:
                raise asyncio.CancelledError
        except BaseException as error:
            await call.fail(error)
        finally:
            calls.discard(call)
            call.task = None
            if bounded:
                call.unbound()
            del call, context  # see Rpc.fail

    return handle


def _sender(call: Rpc, context: _Context) -> Write:
    """What writes the messages of a stream."""
    began = False

    async def send(*items: bytes) -> None:
        nonlocal began
        writing = context.write(pack(*items))
        try:
            if began:
                await writing
            else:
                began = True
                await call.open(writing)
        except grpc.aio.BaseError:
            # The call is over. grpc.aio is about to cancel the task, which is how a stream learns of it.
            await asyncio.sleep(_CANCELLING_SECONDS)
            raise

    return send

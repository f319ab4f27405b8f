"""One HTTP request that calls a function, and its answer: the call's life between an ASGI server and ``invoke``.

The function runs in the task that the ASGI server made for the request. A deadline, a client that leaves and a server
that stops interrupt it: they cancel that task, and where somebody is left to be told, they tell without waiting for the
function, which may take its time to clean up.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import grpc

from ephaptic_grpc import invoke
from ephaptic_grpc.call import Call, enter_call, leave_call
from ephaptic_grpc.edge import LATE, Calls, failure
from ephaptic_grpc.errors import Status
from ephaptic_grpc.faces import Answer, Face
from ephaptic_grpc.grpc_web import metadata, timeout_seconds
from ephaptic_grpc.limits import Limits
from ephaptic_grpc.payload import KIND_ASKED, KIND_STREAM, request_too_large
from ephaptic_grpc.procedure import Procedure
from ephaptic_grpc.threads import Threads

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
"""What ASGI calls so."""

_KIND: Final = (KIND_STREAM[0].encode(), KIND_STREAM[1].encode())
_CANCELLED: Final = Status(grpc.StatusCode.CANCELLED, "the call was cancelled", ())
_LEFT: Final = Answer(499, [(b"content-length", b"0")], b"")
"""For nobody: middleware between the ASGI server and this app takes an app that never answers for a broken one."""


class _LeftError(Exception):
    """The client went before its request had come."""


class Endpoint:
    """One procedure, as it is called over HTTP."""

    def __init__(self, procedure: Procedure, threads: Threads, calls: "Calls[Exchange]", limits: Limits) -> None:
        self.procedure: Final = procedure
        self.calls: Final = calls
        self.limits: Final = limits.of(procedure.limits)
        self.bounds_time: Final = self.limits.bounds_time
        self.unary: Final = None if procedure.streams else invoke.unary(procedure, threads, self.limits)
        self.stream: Final = invoke.stream(procedure, threads, self.limits)


class Exchange:
    """One request and its answer; to the call it is the transport.

    Attributes:
        procedure: what is called.
    """

    __slots__ = (
        "_began",
        "_beginning",
        "_deadline",
        "_endpoint",
        "_face",
        "_headers",
        "_interrupted",
        "_loop",
        "_metadata",
        "_over",
        "_receive",
        "_send",
        "_task",
        "_telling",
        "_watching",
        "procedure",
    )

    def __init__(self, endpoint: Endpoint, face: Face, scope: Scope, receive: Receive, send: Send) -> None:
        self.procedure: Final = endpoint.procedure
        self._endpoint: Final = endpoint
        self._face: Final = face
        self._headers: Final = scope["headers"]
        self._receive: Final = receive
        self._send: Final = send
        self._task: Final = asyncio.current_task()
        # Of the task, since Python 3.11 asks the kernel for the process id before it tells which loop runs.
        self._loop: Final = asyncio.get_running_loop() if self._task is None else self._task.get_loop()
        self._metadata: list[tuple[str, str | bytes]] | None = None
        self._deadline: float | None = None
        self._beginning = False
        self._began = False
        self._over = False
        self._interrupted = False
        self._telling: asyncio.Task[None] | None = None
        self._watching: asyncio.Handle | asyncio.Task[None] | None = None

    def invocation_metadata(self) -> list[tuple[str, str | bytes]]:
        if self._metadata is None:
            self._metadata = metadata(self._headers)
        return self._metadata

    def time_remaining(self) -> float | None:
        return None if self._deadline is None else max(self._deadline - self._loop.time(), 0.0)

    async def run(self, timeout: bytes | None) -> None:
        """Answer the request.

        Args:
            timeout: the header ``grpc-timeout``.
        """
        call = Call(self.procedure, self)
        entered = enter_call(call)
        timer = None
        answer: Answer | bytes | None
        try:
            try:
                self._endpoint.calls.enter(self)
                asked = None if timeout is None else timeout_seconds(timeout.decode("latin-1"))
                bound = self._endpoint.limits.deadline(asked) if self._endpoint.bounds_time else None
                seconds = asked if bound is None else bound
                if seconds is not None:
                    self._deadline = self._loop.time() + seconds
                    timer = self._loop.call_later(seconds, self.interrupt, LATE)
                answer = await self._result()
            except BaseException as error:
                answer = await self._failed(error, call)
            finally:
                self._endpoint.calls.discard(self)
                leave_call(entered)
                if timer is not None:
                    timer.cancel()
            if self._interrupted and self._task is not None:
                self._task.uncancel()
            if self._telling is not None:
                await self._telling
            elif not self._over and answer is not None:
                self._over = True
                await self._answer(answer)
            elif not self._beginning:
                await self._answer(_LEFT)
        finally:
            if self._watching is not None:
                self._watching.cancel()

    async def _result(self) -> Answer | bytes:
        """Call the function, and send all but the end of the answer."""
        endpoint, face = self._endpoint, self._face
        json = await self._read()
        # Later: most functions are faster than what would have to be set up to see that their caller leaves.
        self._watching = self._loop.call_soon(self._watch)
        if endpoint.unary is not None:
            return face.value(await endpoint.unary(json))
        asked = self.invocation_metadata()
        if KIND_ASKED in asked:
            await self._begin(_KIND)
        await endpoint.stream(json, self._write, self.interrupt, face.delivery(asked))
        return face.end

    def interrupt(self, status: Status | None) -> asyncio.Task[None] | None:
        """End a call that has not ended yet: tell its caller, if there still is one, and cancel its function."""
        if self._over or self._task is None:
            return self._telling
        self._over = self._interrupted = True
        self._task.cancel()
        if status is not None:  # after what was cancelled has let go of the transport
            self._telling = self._loop.create_task(self._answer(self._told(status)))
        return self._telling

    async def _failed(self, error: BaseException, call: Call) -> Answer | bytes | None:
        """What is left to be sent when a call has failed."""
        if isinstance(error, _LeftError):
            return None
        if isinstance(error, asyncio.CancelledError) and self._task is not None:
            if self._over:
                return None
            if self._task.cancelling():  # by who runs the task, or by the function itself
                self._over = True
                await self._answer(self._told(_CANCELLED))
                raise error
        status = failure(error, call)  # which logs what nobody meant, also where nobody is left to be told
        return None if self._over else self._told(status)

    def _told(self, status: Status) -> Answer | bytes:
        return self._face.broken(status) if self._began else self._face.failed(status)

    async def _read(self) -> bytes:
        """The JSON of the arguments."""
        face, most = self._face, self._endpoint.limits.request_bytes
        largest = face.largest(most)
        body = bytearray()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise _LeftError
            body += message.get("body", b"")
            if len(body) > largest:
                raise request_too_large(most)
            if not message.get("more_body", False):
                return face.arguments(bytes(body), most)

    def _watch(self) -> None:
        self._watching = self._loop.create_task(self._wait_for_leaving())

    async def _wait_for_leaving(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.interrupt(None)

    async def _begin(self, *more: tuple[bytes, bytes]) -> None:
        self._beginning = True
        await self._send({"type": "http.response.start", "status": 200, "headers": [*self._face.head, *more]})
        self._began = True  # not before: who is interrupted while it waits for room has sent nothing

    async def _write(self, *items: bytes) -> None:
        try:
            if not self._began:
                await self._begin()
            await self._send({"type": "http.response.body", "body": self._face.items(*items), "more_body": True})
        except OSError:  # how ASGI 2.4 says that the client has left
            self._over = True
            raise asyncio.CancelledError from None

    async def _answer(self, answer: Answer | bytes) -> None:
        """Send a whole answer, or the end of one that has begun."""
        try:
            if isinstance(answer, Answer):
                await send_answer(answer, self._send)
            else:
                if not self._began:
                    await self._begin()
                await self._send({"type": "http.response.body", "body": answer, "more_body": False})
        except OSError:
            return


async def send_answer(answer: Answer, send: Send) -> None:
    """Send a whole answer."""
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})

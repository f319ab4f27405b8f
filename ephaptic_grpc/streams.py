"""The items of one call of an asynchronous client, as they arrive: what reads them, and what ends the call."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Generic, Never, TypeVar

import grpc

from ephaptic_grpc.errors import CallError
from ephaptic_grpc.handshake import ChannelSecurity
from ephaptic_grpc.limits import AHEAD_SECONDS
from ephaptic_grpc.payload import KIND_STREAM
from ephaptic_grpc.remote import Method

T = TypeVar("T")

_RUNNING: Final = "already running"
"""What Python says where two read from one asynchronous generator, as that of grpc's call is."""


class Stream(AsyncIterator[T], Generic[T]):
    """The items of one call, as they arrive: ``async for item in client.ticker()``.

    Leaving the loop early (``break``, an exception) cancels the call, and so does dropping the stream: the generator
    on the server stops. ``await`` gives the stream itself.

    Raises:
        CallError: from the loop, when the call fails; items that came before have been given.
    """

    def __init__(
        self,
        call: "grpc.aio.UnaryStreamCall[bytes, bytes]",
        method: Method,
        security: ChannelSecurity,
        *,
        heartbeats: bool = False,
    ) -> None:
        self._call = call
        self._method = method
        self._security = security
        self._heartbeats = heartbeats
        self._next = aiter(call).__anext__
        self._come: Iterator[T] = iter(())  # with the last message, and not given yet
        self._turn = 0.0  # when the event loop is due to have one
        self._ended = self._left = False
        self._loop = asyncio.get_running_loop()

    def __aiter__(self) -> AsyncIterator[T]:  # noqa: PYI034  not self: see _Items
        return _Items(self)

    if not TYPE_CHECKING:  # to type checkers it can't be iterated over so, which is right

        def __iter__(self) -> Never:
            raise TypeError(f"{self._method.name}(...) streams: write 'async for', or connect by connect_sync")

    async def __anext__(self, _items: object = None) -> T:
        cancelling = 0
        try:
            while True:
                for item in self._come:
                    if perf_counter() > self._turn:
                        await asyncio.sleep(0)  # who loops over items that have come may never wait itself
                        self._turn = perf_counter() + AHEAD_SECONDS
                        if self._left:
                            break  # it was cancelled in that turn
                    return item
                if self._left:
                    raise self._method.cancelled()
                cancelling = _cancelling(self._loop)
                message = await self._next()
                self._turn = perf_counter() + AHEAD_SECONDS
                if (message or not self._heartbeats) and not self._left:
                    self._come = self._method.items(message)
        except StopAsyncIteration:
            # A step that was cancelled ended grpc's own iterator, and the call with it.
            if self._left or self._call.cancelled():
                raise self._method.cancelled() from None
            self._ended = True
            raise
        except grpc.RpcError as error:
            raise await self._security.explain_soon(self._method.failure(error)) from None
        except asyncio.CancelledError:
            # grpc.aio raises it, too, where the call was cancelled, and this task was not.
            if self._left and _cancelling(self._loop) == cancelling:
                raise self._method.cancelled() from None
            self.cancel()
            raise
        except BaseException as error:
            self.cancel()
            if isinstance(error, RuntimeError) and _RUNNING in str(error):
                raise RuntimeError(f"two loops at once read one stream of {self._method.path}: call it twice") from None
            raise

    def __await__(self) -> Generator[Any, None, Any]:
        return self._itself().__await__()

    async def _itself(self) -> Any:
        return self

    def cancel(self) -> None:
        """End the call; a loop over it raises CallError with CANCELLED."""
        self._call.cancel()
        self._leave()

    def _leave(self) -> None:
        """Give nothing more: what has come already would look like all there is."""
        self._left = not self._ended
        self._come = iter(())

    async def aclose(self) -> None:
        """The same, for ``contextlib.aclosing``."""
        self.cancel()

    def __del__(self) -> None:
        # grpc.aio itself never cancels a call that is dropped. Garbage is collected in any thread.
        loop = getattr(self, "_loop", None)
        if loop is not None and not self._call.done() and not loop.is_closed():
            loop.call_soon_threadsafe(self._call.cancel)


class _Items(AsyncIterator[T]):
    """One loop over a stream. It is dropped when the loop is left, however: that ends the call."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream[T]) -> None:
        self._stream = stream

    def __anext__(self) -> Coroutine[Any, Any, T]:
        return self._stream.__anext__(self)  # which lives as long as the step: anext(aiter(stream)) drops it at once

    def __del__(self) -> None:
        self._stream.__del__()
        self._stream._leave()


class Pending(Stream[Any], Coroutine[Any, Any, Any]):
    """A call of a function that may stream or not: ``await`` its value, or loop over its items.

    It is a coroutine to asyncio, too: ``create_task`` takes it.
    """

    _steps: Coroutine[Any, Any, Any] | None = None

    def send(self, value: Any, /) -> Any:
        if self._steps is None:
            self._steps = self._itself()
        return self._steps.send(value)

    def throw(self, *error: Any) -> Any:
        if self._steps is None:
            self._steps = self._itself()
        return self._steps.throw(*error)

    def close(self) -> None:
        if self._steps is not None:
            self._steps.close()
        self.cancel()

    async def _itself(self) -> Any:
        if self._ended:
            raise RuntimeError(
                f"this call of {self._method.path} has been read already: await it, or loop over it, once"
            )
        try:
            streams = KIND_STREAM in tuple(await self._call.initial_metadata())
        except asyncio.CancelledError:
            self.cancel()
            raise
        if streams:
            self.cancel()
            raise TypeError(f"{self._method.path} streams: write 'async for item in client.{self._method.name}(...)'")
        values = [value async for value in self]
        if len(values) != 1:
            raise CallError(grpc.StatusCode.INTERNAL, f"{self._method.path} gave {len(values)} values instead of one")
        return values[0]


def _cancelling(loop: asyncio.AbstractEventLoop) -> int:
    """How often this task was asked to end."""
    task = asyncio.current_task(loop)  # which takes a third of the time that it takes without the loop
    return 0 if task is None else task.cancelling()

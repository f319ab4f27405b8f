"""The asynchronous client: ``async with connect("localhost:50051", chat) as client: await client.add(1, 2)``."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Generator, Iterator
from os import getpid
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Never, ParamSpec, Self, TypeVar, overload
from weakref import WeakSet

import grpc

from ephaptic_grpc.connections import ChannelOptions, use_asyncio
from ephaptic_grpc.declared import declarations_of
from ephaptic_grpc.errors import CallError
from ephaptic_grpc.handshake import ChannelSecurity
from ephaptic_grpc.limits import AHEAD_SECONDS
from ephaptic_grpc.options import Metadata, Options, asked, batched, wants_heartbeats
from ephaptic_grpc.payload import KIND_STREAM
from ephaptic_grpc.remote import (
    BaseClient,
    Functions,
    FunctionsAsAttributes,
    Method,
    channel_options,
    named,
    remote_of,
)
from ephaptic_grpc.service import Service, default_service
from ephaptic_grpc.targets import check_target
from ephaptic_grpc.tls import ClientTLS

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound="DeclaredClient")

_RUNNING: Final = "already running"
"""What Python says where two read from one asynchronous generator, as that of grpc's call is."""


@overload
def connect(
    target: str,
    service: type[C],
    *,
    timeout: float | None = None,
    metadata: Metadata = (),
    tls: ClientTLS | bool | None = None,
    credentials: grpc.ChannelCredentials | None = None,
    reply_bytes: int | None = None,
) -> C: ...
@overload
def connect(
    target: str,
    service: Service | str = default_service,
    *,
    timeout: float | None = None,
    metadata: Metadata = (),
    tls: ClientTLS | bool | None = None,
    credentials: grpc.ChannelCredentials | None = None,
    reply_bytes: int | None = None,
) -> "Client": ...


def connect(
    target: str,
    service: "Service | str | type[DeclaredClient]" = default_service,
    *,
    timeout: float | None = None,
    metadata: Metadata = (),
    tls: ClientTLS | bool | None = None,
    credentials: grpc.ChannelCredentials | None = None,
    reply_bytes: int | None = None,
) -> "DeclaredClient":
    """A client of a service.

    Nothing is connected before the first call.

    Args:
        target: where the server is, such as ``localhost:50051``, or any other form that gRPC knows.
        service: a ``Service``: arguments are sent as its functions declare them, and values come back as the declared
            types. Or the class of a generated client, which is the same without the service's code. Or a service's
            name: then plain JSON data comes back.
        timeout: seconds until a call is given up with DEADLINE_EXCEEDED; None for no deadline.
        metadata: goes with each call.
        tls: True for TLS with the authorities that the system trusts, or a ``ClientTLS`` that names others, or the
            client's own certificate. Without it the connection is plaintext.
        credentials: grpc's own, in place of ``tls``, for what that can't say.
        reply_bytes: bytes of JSON that one reply, or one item of a stream, has at most; a larger one is
            RESOURCE_EXHAUSTED. None means 4 MiB, or what a ``Service`` or a generated client says of its functions.

    Raises:
        TypeError, ValueError: ``target`` can't be a server, or ``service`` is none of these; no header can carry the
            metadata; a file of ``tls`` can't be used; or ``reply_bytes`` is no number of bytes.
        OSError: a file of ``tls`` can't be read.
    """
    check_target(target)
    options = Options.of(timeout, metadata)
    generated = service if isinstance(service, type) and issubclass(service, DeclaredClient) else None
    remote = declarations_of(generated) if generated else remote_of(service, DeclaredClient)
    connection = _Connection(ChannelSecurity(target, tls, credentials), channel_options(remote, reply_bytes))
    return (generated or Client)(connection, remote, options)


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
        try:
            while True:
                for item in self._come:
                    if perf_counter() > self._turn:
                        await asyncio.sleep(0)  # who loops over items that have come may never wait itself
                        self._turn = perf_counter() + AHEAD_SECONDS
                        if self._left:
                            break  # it was cancelled in that turn
                    return item
                message = await self._next()
                self._turn = perf_counter() + AHEAD_SECONDS
                if (message or not self._heartbeats) and not self._left:
                    self._come = self._method.items(message)
        except StopAsyncIteration:
            # A step that was cancelled ended grpc's own iterator, and the call with it.
            if self._left or self._call.cancelled():
                raise _cancelled() from None
            self._ended = True
            raise
        except grpc.RpcError as error:
            raise await self._security.explain_soon(self._method.failure(error)) from None
        except asyncio.CancelledError:
            self.cancel()
            raise _cancelled() from None
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


class Pending(Stream[Any]):
    """A call of a function that may stream or not: ``await`` its value, or loop over its items."""

    async def _itself(self) -> Any:
        if self._ended:
            raise RuntimeError(
                f"this call of {self._method.path} has been read already: await it, or loop over it, once"
            )
        try:
            streams = KIND_STREAM in tuple(await self._call.initial_metadata())
        except asyncio.CancelledError:
            self.cancel()
            raise _cancelled() from None
        if streams:
            self.cancel()
            raise TypeError(f"{self._method.path} streams: write 'async for item in client.{self._method.name}(...)'")
        values = [value async for value in self]
        if len(values) != 1:
            raise CallError(grpc.StatusCode.INTERNAL, f"{self._method.path} gave {len(values)} values instead of one")
        return values[0]


class DeclaredClient(BaseClient):
    """The base of generated clients: their methods are the functions, each a coroutine or a ``Stream``.

    A client belongs to the event loop of its first call. Every call raises CallError when it fails, and TypeError
    where the function can't be called so.
    """

    _connected_by = "connect"

    def __init__(self, connection: "_Connection", functions: Functions, options: Options) -> None:
        super().__init__(functions, options)
        self._connection = connection

    async def close(self) -> None:
        """Close the connection, and with it every call and every client made by ``with_options``."""
        await self._connection.close()

    if not TYPE_CHECKING:

        def __enter__(self) -> Never:
            raise TypeError("write 'async with connect(...)', or connect by connect_sync")

        def __exit__(self, *_: object) -> None: ...  # Python looks for both first

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _with(self, options: Options) -> Self:
        return type(self)(self._connection, self._functions, options)

    def _callable(self, method: Method) -> Callable[..., Any]:
        connection, path, request, value = self._connection, method.path, method.request, method.value
        timeout, pairs = self._options.timeout, (*self._options.metadata, *method.metadata)
        metadata, in_batches, kind_asked = (grpc.aio.Metadata(*each) for each in (pairs, batched(pairs), asked(pairs)))
        heartbeats = wants_heartbeats(pairs)

        async def unary(*args: Any, **kwargs: Any) -> Any:
            message = request(args, kwargs)
            try:
                reply = await connection.unary(path)(message, timeout=timeout, metadata=metadata)
            except grpc.RpcError as error:
                raise await connection.security.explain_soon(method.failure(error)) from None
            except asyncio.CancelledError:
                raise _cancelled() from None
            return value(reply)

        def stream(*args: Any, **kwargs: Any) -> Stream[Any]:
            message = request(args, kwargs)
            call = connection.stream(path, message, timeout, in_batches)
            return Stream(call, method, connection.security, heartbeats=heartbeats)

        def either(*args: Any, **kwargs: Any) -> Pending:
            message = request(args, kwargs)
            call = connection.stream(path, message, timeout, kind_asked)
            return Pending(call, method, connection.security, heartbeats=heartbeats)

        return named(either if method.streams is None else stream if method.streams else unary, method)


class Client(FunctionsAsAttributes, DeclaredClient):
    """The functions of a service as attributes: a coroutine, or a ``Stream``, for each call.

    A client belongs to the event loop of its first call. Every call raises CallError when it fails, and TypeError
    where the function can't be called so.
    """

    # What an editor sees of a bound function is the function itself; only its value has become awaitable, or a Stream.
    # The overloads overlap, for a T can be an iterator, too; the first that fits is the right one.
    @overload
    def bind(self, function: Callable[P, AsyncIterable[T]], /) -> Callable[P, Stream[T]]: ...  # type: ignore[overload-overlap]
    @overload
    def bind(self, function: Callable[P, Coroutine[Any, Any, AsyncIterable[T]]], /) -> Callable[P, Stream[T]]: ...  # type: ignore[overload-overlap]
    @overload
    def bind(self, function: Callable[P, Coroutine[Any, Any, Iterator[T]]], /) -> Callable[P, Stream[T]]: ...  # type: ignore[overload-overlap]
    @overload
    def bind(self, function: Callable[P, Coroutine[Any, Any, T]], /) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def bind(self, function: Callable[P, Iterator[T]], /) -> Callable[P, Stream[T]]: ...  # type: ignore[overload-overlap]
    @overload
    def bind(self, function: Callable[P, T], /) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def bind(self, function: Callable[..., Any], /) -> Callable[..., Any]:
        """An exposed function, called remotely, with its own parameters and result: ``client.bind(add)(1, 2)``.

        Raises:
            LookupError: the function isn't exposed on this service.
            TypeError: the client knows the service by its name only.
        """
        return self._callable(self._functions.method_of(function))


def _cancelled() -> BaseException:
    """What a CancelledError from grpc.aio means: it raises one, too, where the call was cancelled and not this task."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        return asyncio.CancelledError()
    return CallError(grpc.StatusCode.CANCELLED, "the call was cancelled by its client")


class _Connection:
    """One channel, opened by the first call: grpc binds it to the loop that is running then."""

    def __init__(self, security: ChannelSecurity, options: ChannelOptions) -> None:
        self.security: Final = security
        self._options: Final = options
        self._channel: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0
        self._closed = False
        self._unary: Final[dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]]] = {}
        self._stream: Final[dict[str, grpc.aio.UnaryStreamMultiCallable[bytes, bytes]]] = {}
        self._streams: WeakSet[grpc.aio.UnaryStreamCall[bytes, bytes]] = WeakSet()

    def unary(self, path: str) -> "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]":
        channel = self._open()
        method = self._unary.get(path)
        if method is None:
            method = self._unary[path] = channel.unary_unary(path)
        return method

    def stream(
        self, path: str, message: bytes, timeout: float | None, metadata: grpc.aio.Metadata
    ) -> "grpc.aio.UnaryStreamCall[bytes, bytes]":
        channel = self._open()
        method = self._stream.get(path)
        if method is None:
            method = self._stream[path] = channel.unary_stream(path)
        call = method(message, timeout=timeout, metadata=metadata)
        self._streams.add(call)
        return call

    def _open(self) -> grpc.aio.Channel:
        loop = asyncio.get_running_loop()
        if self._channel is not None and self._loop is loop and self._process == getpid():
            return self._channel
        use_asyncio()
        if self._closed:
            raise RuntimeError("the client is closed")
        if self._channel is not None:
            raise RuntimeError("the client belongs to another event loop: connect once for each loop")
        self._channel = self.security.aio_channel(self._options)
        self._loop, self._process = loop, getpid()
        return self._channel

    async def close(self) -> None:
        self._closed = True
        channel, self._channel = self._channel, None
        self._unary.clear()
        self._stream.clear()
        for call in self._streams:  # older releases of grpcio forget those that nobody reads just now
            call.cancel()
        if channel is not None:
            await channel.close()

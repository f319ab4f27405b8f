"""The asynchronous client: ``async with connect("localhost:50051", chat) as client: await client.add(1, 2)``."""

import asyncio
from collections.abc import AsyncIterable, Callable, Coroutine, Iterator
from os import getpid
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Never, ParamSpec, Self, TypeVar, overload
from weakref import WeakSet

import grpc

from ephaptic_grpc.connections import ChannelOptions, use_asyncio
from ephaptic_grpc.declared import declarations_of
from ephaptic_grpc.handshake import ChannelSecurity
from ephaptic_grpc.options import Metadata, Options, wants_heartbeats
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
from ephaptic_grpc.streams import Pending, Stream
from ephaptic_grpc.targets import check_target
from ephaptic_grpc.tls import ClientTLS

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound="DeclaredClient")
S = TypeVar("S", bound=Stream[Any])


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
        TypeError, ValueError: ``target`` can't be a server, or ``service`` is none of these; ``timeout`` is no number
            of seconds; no header can carry the metadata; a file of ``tls`` can't be used; or ``reply_bytes`` is no
            number of bytes.
        OSError: a file of ``tls`` can't be read.
    """
    check_target(target)
    options = Options.of(timeout, metadata)
    generated = service if isinstance(service, type) and issubclass(service, DeclaredClient) else None
    remote = declarations_of(generated) if generated else remote_of(service, DeclaredClient)
    connection = _Connection(ChannelSecurity(target, tls, credentials), channel_options(remote, reply_bytes))
    return (generated or Client)(connection, remote, options.within(reply_bytes))


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
        options, timeout = self._options, self._options.timeout
        pairs = (*options.metadata, *method.metadata)
        metadata, of_stream, of_either = (
            grpc.aio.Metadata(*each) for each in (pairs, options.of_stream(pairs), options.of_either(pairs))
        )
        heartbeats = wants_heartbeats(pairs)

        async def unary(*args: Any, **kwargs: Any) -> Any:
            message = request(args, kwargs)
            try:
                reply = await connection.unary(path)(message, timeout=timeout, metadata=metadata)
            except grpc.RpcError as error:
                raise await connection.security.explain_soon(method.failure(error)) from None
            except asyncio.CancelledError:
                raise await _cancelled(method) from None
            return value(reply)

        def stream(*args: Any, **kwargs: Any) -> Stream[Any]:
            message = request(args, kwargs)
            call = connection.stream(path, message, timeout, of_stream)
            return connection.ending(Stream(call, method, connection.security, heartbeats=heartbeats))

        def either(*args: Any, **kwargs: Any) -> Pending:
            message = request(args, kwargs)
            call = connection.stream(path, message, timeout, of_either)
            return connection.ending(Pending(call, method, connection.security, heartbeats=heartbeats))

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


async def _cancelled(method: Method) -> BaseException:
    """What the CancelledError means that grpc.aio raises of its own: this task was cancelled, or else its call was.

    Raises:
        CancelledError: anyio cancels this task; it knows its own by their text, which grpc's has not.
    """
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        return method.cancelled()
    await asyncio.sleep(0)  # until its scope is left, anyio cancels a task again wherever it waits
    return asyncio.CancelledError()


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
        self._ending: WeakSet[Stream[Any]] = WeakSet()

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
        return method(message, timeout=timeout, metadata=metadata)

    def ending(self, stream: S) -> S:
        """A stream, which ends with the connection."""
        self._ending.add(stream)
        return stream

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
        for stream in self._ending:  # older releases of grpcio forget those that nobody reads just now
            stream.cancel()
        if channel is not None:
            await channel.close()

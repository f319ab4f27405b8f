"""The blocking client, for scripts and notebooks: ``connect_sync("localhost:50051", chat).add(1, 2)``."""

from collections.abc import AsyncIterable, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar, overload

import grpc

from ephaptic_grpc.connections import check_process
from ephaptic_grpc.declared import declarations_of
from ephaptic_grpc.errors import CallError
from ephaptic_grpc.handshake import ChannelSecurity
from ephaptic_grpc.options import Metadata, Options, Pairs, wants_heartbeats
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
C = TypeVar("C", bound="SyncDeclaredClient")


@overload
def connect_sync(
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
def connect_sync(
    target: str,
    service: Service | str = default_service,
    *,
    timeout: float | None = None,
    metadata: Metadata = (),
    tls: ClientTLS | bool | None = None,
    credentials: grpc.ChannelCredentials | None = None,
    reply_bytes: int | None = None,
) -> "SyncClient": ...


def connect_sync(
    target: str,
    service: "Service | str | type[SyncDeclaredClient]" = default_service,
    *,
    timeout: float | None = None,
    metadata: Metadata = (),
    tls: ClientTLS | bool | None = None,
    credentials: grpc.ChannelCredentials | None = None,
    reply_bytes: int | None = None,
) -> "SyncDeclaredClient":
    """A blocking client of a service: arguments as for ``connect``; ``with`` or ``close()`` ends it."""
    check_target(target)
    check_process()
    options = Options.of(timeout, metadata)
    generated = service if isinstance(service, type) and issubclass(service, SyncDeclaredClient) else None
    remote = declarations_of(generated) if generated else remote_of(service, SyncDeclaredClient)
    security = ChannelSecurity(target, tls, credentials)
    channel = security.channel(channel_options(remote, reply_bytes))
    return (generated or SyncClient)(channel, security, remote, options.within(reply_bytes))


class SyncStream(Iterator[T], Generic[T]):
    """The items of one call, as they arrive: ``for item in client.ticker()``.

    Leaving the loop early (``break``, an exception) cancels the call, and so does dropping the stream: the generator
    on the server stops.

    Raises:
        CallError: from the loop, when the call fails; items that came before have been given.
    """

    def __init__(self, call: Any, method: Method, security: ChannelSecurity, *, heartbeats: bool = False) -> None:
        self._call = call
        self._method = method
        self._security = security
        self._heartbeats = heartbeats
        self._come: Iterator[T] = iter(())  # with the last message, and not given yet
        self._ended = self._left = False

    def __iter__(self) -> Iterator[T]:  # noqa: PYI034  not self: see _SyncItems
        return _SyncItems(self)

    def __next__(self) -> T:
        try:
            while True:
                for item in self._come:
                    return item
                message = next(self._call)
                if (message or not self._heartbeats) and not self._left:
                    self._come = self._method.items(message)
        except StopIteration:
            if self._left:
                raise self._method.cancelled() from None
            self._ended = True
            raise
        except grpc.RpcError as error:
            raise self._security.explain(self._method.failure(error)) from None
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """End the call, from any thread; a loop over it raises CallError with CANCELLED."""
        self._call.cancel()
        # What has come already would look like all there is.
        self._left = not self._ended
        self._come = iter(())

    close = cancel  # for contextlib.closing

    def __del__(self) -> None:
        if hasattr(self, "_call"):
            self._call.cancel()


class _SyncItems(Iterator[T]):
    """One loop over a stream. It is dropped when the loop is left, however: that ends the call."""

    __slots__ = ("_stream",)

    def __init__(self, stream: SyncStream[T]) -> None:
        self._stream = stream

    def __next__(self) -> T:
        return self._stream.__next__()

    def __del__(self) -> None:
        self._stream.cancel()


class SyncDeclaredClient(BaseClient):
    """The base of generated blocking clients: their methods are the functions, each a value or a ``SyncStream``.

    Every call raises CallError when it fails, and TypeError where the function can't be called so.
    """

    _connected_by = "connect_sync"

    def __init__(
        self, channel: grpc.Channel, security: ChannelSecurity, functions: Functions, options: Options
    ) -> None:
        super().__init__(functions, options)
        self._channel = channel
        self._security = security

    def close(self) -> None:
        """Close the connection, and with it every call and every client made by ``with_options``."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _with(self, options: Options) -> Self:
        return type(self)(self._channel, self._security, self._functions, options)

    def _callable(self, method: Method) -> Callable[..., Any]:
        options, timeout = self._options, self._options.timeout
        metadata = (*options.metadata, *method.metadata)
        of_stream, of_either = options.of_stream(metadata), options.of_either(metadata)
        heartbeats = wants_heartbeats(metadata)
        request, security = method.request, self._security
        call_unary: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(method.path)
        call_stream: grpc.UnaryStreamMultiCallable[bytes, bytes] = self._channel.unary_stream(method.path)

        def begin(call: Any, message: bytes, metadata: Pairs = metadata) -> Any:
            try:
                return call(message, timeout=timeout, metadata=metadata)
            except ValueError:
                raise RuntimeError("the client is closed") from None

        def unary(*args: Any, **kwargs: Any) -> Any:
            message = request(args, kwargs)
            try:
                reply = begin(call_unary, message)
            except grpc.RpcError as error:
                raise security.explain(method.failure(error)) from None
            return method.value(reply)

        def stream(*args: Any, **kwargs: Any) -> SyncStream[Any]:
            message = request(args, kwargs)
            return SyncStream(begin(call_stream, message, of_stream), method, security, heartbeats=heartbeats)

        def either(*args: Any, **kwargs: Any) -> Any:
            message = request(args, kwargs)
            call = begin(call_stream, message, of_either)
            items: SyncStream[Any] = SyncStream(call, method, security, heartbeats=heartbeats)
            if KIND_STREAM in tuple(call.initial_metadata() or ()):
                return items
            values = list(items)
            if len(values) != 1:
                raise CallError(grpc.StatusCode.INTERNAL, f"{method.path} gave {len(values)} values instead of one")
            return values[0]

        return named(either if method.streams is None else stream if method.streams else unary, method)


class SyncClient(FunctionsAsAttributes, SyncDeclaredClient):
    """The functions of a service as attributes: a value, or a ``SyncStream``, for each call.

    Every call raises CallError when it fails, and TypeError where the function can't be called so.
    """

    @overload
    def bind(self, function: Callable[P, AsyncIterable[T]], /) -> Callable[P, SyncStream[T]]: ...
    @overload
    def bind(self, function: Callable[P, Coroutine[Any, Any, AsyncIterable[T]]], /) -> Callable[P, SyncStream[T]]: ...
    @overload
    def bind(self, function: Callable[P, Coroutine[Any, Any, Iterator[T]]], /) -> Callable[P, SyncStream[T]]: ...
    @overload
    def bind(self, function: Callable[P, Coroutine[Any, Any, T]], /) -> Callable[P, T]: ...
    @overload
    def bind(self, function: Callable[P, Iterator[T]], /) -> Callable[P, SyncStream[T]]: ...
    @overload
    def bind(self, function: Callable[P, T], /) -> Callable[P, T]: ...

    def bind(self, function: Callable[..., Any], /) -> Callable[..., Any]:
        """An exposed function, called remotely, with its own parameters and result: ``client.bind(add)(1, 2)``.

        Raises:
            LookupError: the function isn't exposed on this service.
            TypeError: the client knows the service by its name only.
        """
        return self._callable(self._functions.method_of(function))

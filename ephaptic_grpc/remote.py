"""A service as its callers know it: what the asynchronous and the blocking client have in common."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol, Self

import grpc
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from ephaptic_grpc.connections import ChannelOptions, client_options
from ephaptic_grpc.errors import CallError
from ephaptic_grpc.limits import ENVELOPE_BYTES, JSON_BYTES, check_bytes
from ephaptic_grpc.names import check_function_name, check_service_name, rpc_path, suggestion
from ephaptic_grpc.options import KEEP, Keep, Metadata, Options, Pairs
from ephaptic_grpc.payload import CONTRACT_KEY, MalformedPayloadError, pack, unpack, unpack_items
from ephaptic_grpc.procedure import Procedure
from ephaptic_grpc.service import Service, default_service, meant_in
from ephaptic_grpc.violations import misfit

_TOO_LARGE: Final = re.compile(r"(?<!SERVER: )Received message larger than max \((\d{1,10}) vs\. \d+\)")
"""What gRPC says of a message that its own side doesn't take; a newer one says whose side."""


@dataclass(frozen=True, slots=True)
class Method:
    """One remote function.

    Attributes:
        name: what the client calls it.
        path: its RPC.
        streams: whether it streams; None where only the server knows.
        dump: arguments to JSON.
        load: JSON to a value or an item.
        load_all: a JSON array to the items in it, where that is faster than one by one.
        metadata: goes with each call, besides the client's own.
    """

    name: str
    path: str
    streams: bool | None
    dump: Callable[[tuple[Any, ...], dict[str, Any]], bytes]
    load: Callable[[bytes], Any]
    load_all: Callable[[bytes], list[Any]] | None = None
    metadata: Pairs = ()

    def request(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The message of a call.

        Raises:
            TypeError: the function can't be called so.
            PydanticSerializationError: JSON can't carry an argument.
        """
        try:
            return pack(self.dump(args, kwargs))
        except TypeError as error:
            raise TypeError(f"{self.name}(): {error}") from None
        except PydanticSerializationError as error:
            raise PydanticSerializationError(f"{self.name}(): {error}") from None

    def value(self, message: bytes) -> Any:
        """What a message holds.

        Raises:
            CallError: INTERNAL, it isn't of the declared type.
        """
        try:
            json = unpack(message)
        except MalformedPayloadError as error:
            raise self._misfit(str(error)) from None
        return self._load(json)

    def items(self, message: bytes) -> Iterator[Any]:
        """The items of a stream that a message holds. One that doesn't fit raises at its place.

        Raises:
            CallError: INTERNAL, it is no message of a stream.
        """
        try:
            jsons = unpack_items(message)
        except MalformedPayloadError as error:
            raise self._misfit(str(error)) from None
        if len(jsons) > 1 and self.load_all is not None:
            try:
                items = self.load_all(b"[" + b",".join(jsons) + b"]")
            except Exception:
                items = []  # which of them it is will be seen one by one
            if len(items) == len(jsons):
                return iter(items)
        return map(self._load, jsons)

    def failure(self, error: grpc.RpcError) -> CallError:
        """What is raised where grpc raised an error."""
        failed = CallError.of(error, self.path, generated=self._is_generated)
        return self._noted(_advised(failed) if failed.code is grpc.StatusCode.RESOURCE_EXHAUSTED else failed)

    def cancelled(self) -> CallError:
        """What is raised where the client itself has ended a call."""
        return self._noted(CallError(grpc.StatusCode.CANCELLED, "the call was cancelled by its client"))

    @property
    def _is_generated(self) -> bool:
        return any(key == CONTRACT_KEY for key, _ in self.metadata)

    def _noted(self, failed: CallError) -> CallError:
        failed.add_note(f"in a call of {self.path}")
        return failed

    def _load(self, json: bytes) -> Any:
        try:
            return self.load(json)
        except ValidationError as error:
            reason = misfit(error, json)
            if self._is_generated:
                reason += " (does the server have another contract by now? Generate this client again)"
        except ValueError:
            reason = "it is not JSON"
        raise self._misfit(reason)

    def _misfit(self, reason: str) -> CallError:
        return CallError(grpc.StatusCode.INTERNAL, f"the reply of {self.path} doesn't fit its declared type: {reason}")


class Functions(Protocol):
    """The functions of a service."""

    @property
    def reply_bytes(self) -> int:
        """Bytes of JSON of their largest reply, as far as that is known."""
        ...

    @property
    def idempotent_paths(self) -> Sequence[str]:
        """The paths of those that may run twice, as far as that is known."""
        ...

    def method(self, name: str) -> Method:
        """The function of this name.

        Raises:
            AttributeError: there is none.
        """
        ...


class Remote(Functions, Protocol):
    """The functions of a service, as far as they are known."""

    def names(self) -> list[str]:
        """The names of its functions, as far as they are known."""
        ...

    def method_of(self, function: Callable[..., Any], /) -> Method:
        """What a function was exposed as.

        Raises:
            LookupError: it isn't exposed on this service.
            TypeError: this is a service known by its name only.
        """
        ...


def remote_of(service: object, kind: "type[BaseClient] | None" = None) -> Remote:
    """The functions that a ``Service`` declares, or any at all where only its name is known.

    Args:
        service: one of these.
        kind: the generated clients that would have been right, too.

    Raises:
        TypeError: it is none of these; the message says what was meant.
        ValueError: no service can have that name.
    """
    if isinstance(service, str):
        check_service_name(service)
        return _Named(service)
    if isinstance(service, Service):
        return _Declared(service)
    hint = _meant(service, kind or BaseClient)
    raise TypeError(
        f"connect takes a Service, the name of one or a generated client, not {service!r}{hint and f': {hint}'}"
    )


def _meant(service: object, kind: "type[BaseClient]") -> str:
    """What was meant by what is no service, where that can be told."""
    in_module = meant_in(service, lambda it: isinstance(it, type) and issubclass(it, kind) and bool(it._service))
    if in_module:
        return in_module
    if isinstance(service, BaseClient) and service._service:
        return f"pass its class, {type(service).__name__}"
    if isinstance(service, type) and issubclass(service, BaseClient):
        return f"that one is for {service._connected_by}"
    return ""


@dataclass(frozen=True, slots=True)
class _Declared:
    service: Service

    @property
    def reply_bytes(self) -> int:
        return self.service.reply_bytes

    @property
    def idempotent_paths(self) -> Sequence[str]:
        return self.service.idempotent_paths

    def names(self) -> list[str]:
        return list(self.service.procedures)

    def method(self, name: str) -> Method:
        try:
            return _typed(self.service.procedure(name))
        except KeyError:
            raise unknown(self.service.name, name, self.names()) from None

    def method_of(self, function: Callable[..., Any], /) -> Method:
        return _typed(self.service.procedure_of(function))


@dataclass(frozen=True, slots=True)
class _Named:
    service: str
    reply_bytes: int = JSON_BYTES
    idempotent_paths: Sequence[str] = ()

    def names(self) -> list[str]:
        return []

    def method(self, name: str) -> Method:
        try:
            check_function_name(name)
        except ValueError as error:
            raise AttributeError(f"{name!r} can't be a function: {error}") from None
        return Method(name, rpc_path(self.service, name), None, _dump_untyped, from_json, from_json)

    def method_of(self, function: Callable[..., Any], /) -> Method:  # noqa: ARG002
        raise TypeError("bind needs to know the types: connect with the Service instead of its name")


def channel_options(functions: Functions, reply_bytes: int | None) -> ChannelOptions:
    """The options of a client's channel.

    Args:
        functions: what is called.
        reply_bytes: as of ``connect``.

    Raises:
        ValueError: ``reply_bytes`` is no number of bytes.
    """
    if reply_bytes is not None:
        check_bytes("reply_bytes", reply_bytes)
    largest = (reply_bytes or functions.reply_bytes) + ENVELOPE_BYTES
    return [("grpc.max_receive_message_length", largest), *client_options(functions.idempotent_paths)]


def _advised(failed: CallError) -> CallError:
    """The same error, with what to do where a client's gRPC refuses a reply."""
    found = _TOO_LARGE.search(failed.message)
    if found is None:
        return failed
    said = f"{found[0]}; to take such a reply: connect(..., reply_bytes={int(found[1]) - ENVELOPE_BYTES})"
    return CallError(failed.code, said, failed.details)


def unknown(service: str, name: str, known: Iterable[str]) -> AttributeError:
    """What is raised for a function that a service hasn't."""
    said = f"{service} has no function {name!r}{suggestion(name, known)}"
    if service == default_service.name:
        said += ": it is the default service, connect(target, service) calls another"
    return AttributeError(said)


class BaseClient(ABC):
    """A connection to a service, and how its functions are called over it."""

    _service: ClassVar[str] = ""
    """Of a generated client: the name of its service."""

    _connected_by: ClassVar[str] = ""
    """What makes one."""

    def __init_subclass__(cls, *, service: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._service = service or cls._service

    def __init__(self, functions: Functions, options: Options) -> None:
        self._functions = functions
        self._options = options

    @abstractmethod
    def _callable(self, method: Method) -> Callable[..., Any]:
        """What calls a remote function."""

    @abstractmethod
    def _with(self, options: Options) -> Self:
        """The same client, connected by the same channel, with other options."""

    def _function(self, name: str) -> Callable[..., Any]:
        call = self._callable(self._functions.method(name))
        vars(self)[name] = call  # found there from now on
        return call

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function by its name: ``client.call("search", "x", k=3)`` is ``client.search("x", k=3)``."""
        call = None if name.startswith("_") else vars(self).get(name)
        return (call or self._function(name))(*args, **kwargs)

    def with_options(self, *, timeout: float | Keep | None = KEEP, metadata: Metadata | Keep = KEEP) -> Self:
        """The same client, over the same connection, for calls with other options.

        Args:
            timeout: seconds until a call is given up with DEADLINE_EXCEEDED; None for no deadline.
            metadata: added to what goes with each call; a key that is there already is replaced.

        Raises:
            TypeError, ValueError: ``timeout`` is no number of seconds, or no header can carry the metadata.
        """
        return self._with(self._options.but(timeout, metadata))


class FunctionsAsAttributes(BaseClient):
    """The functions of a service as attributes, which are found when they are first asked for."""

    _functions: Remote

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)  # of Python's own probing (copy, pickle, notebooks): no function has such a name
        return self._function(name)

    def __dir__(self) -> Iterable[str]:
        return {*super().__dir__(), *self._functions.names()}


def named(call: Callable[..., Any], method: Method) -> Callable[..., Any]:
    """What calls a method, under its name: for tracebacks, and for who forgot to await it."""
    call.__name__ = call.__qualname__ = method.name
    return call


def _typed(procedure: Procedure) -> Method:
    value = procedure.value
    load_all = value.load_all if procedure.streams else None
    return Method(procedure.name, procedure.path, procedure.streams, procedure.arguments.dump, value.load, load_all)


def _dump_untyped(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    if args and kwargs:
        raise TypeError("this client doesn't know the parameters' names: pass all by position, or all by name")
    return to_json(kwargs or args, bytes_mode="base64")

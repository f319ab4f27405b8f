"""One exposed function, inspected once: what it is called, how it is called, what it takes and gives."""

import collections.abc
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ephaptic_grpc.arguments import UNREADABLE, Arguments, reason
from ephaptic_grpc.errors import ExposeError
from ephaptic_grpc.limits import FunctionLimits
from ephaptic_grpc.names import rpc_path
from ephaptic_grpc.values import Value

_ASYNC_ITERATORS = (collections.abc.AsyncIterator, collections.abc.AsyncGenerator, collections.abc.AsyncIterable)
_ITERATORS = (collections.abc.Iterator, collections.abc.Generator)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Procedure:
    """One exposed function.

    Attributes:
        service: full name of its service, such as ``chat.v1.ChatService``.
        name: what clients call it: the function's name, or what ``expose(name=...)`` said.
        path: its RPC, such as ``/chat.v1.ChatService/AiResponse``.
        function: what was exposed.
        signature: of the function, with resolved annotations.
        doc: its docstring, cleaned; empty where it has none.
        streams: whether it gives a stream of values (a server-streaming RPC) or exactly one (a unary RPC).
        threaded: whether it is called in a thread, being synchronous.
        idempotent: whether running it twice is as good as once, so that clients may make a call again.
        value_type: the declared type of its value, or of each item of its stream; ``Any`` where none is declared.
        arguments: what it takes.
        value: what it gives.
        limits: what it allows in place of what its server does.
    """

    service: str
    name: str
    path: str
    function: Callable[..., Any]
    signature: inspect.Signature
    doc: str
    streams: bool
    threaded: bool
    idempotent: bool
    value_type: Any
    arguments: Arguments
    value: Value
    limits: FunctionLimits


def inspect_function(
    function: Callable[..., Any],
    service: str,
    name: str,
    response_model: object,
    namespace: Mapping[str, Any],
    limits: FunctionLimits,
    *,
    idempotent: bool = False,
) -> Procedure:
    """The procedure that a function becomes.

    Args:
        function: a function, a bound method, or a ``functools.partial`` of one.
        service: full name of the service.
        name: what it is called there.
        response_model: the type of its value or item, in place of what is annotated; None keeps that.
        namespace: names, besides those of the function's module, that its annotations may use.
        limits: what it allows in place of what its server does.
        idempotent: whether running it twice is as good as once.

    Raises:
        ExposeError: it can't be exposed.
        NameError: an annotation names something that isn't defined (yet).
    """
    signature = resolved_signature(function, namespace)
    returned = _bare(signature.return_annotation)
    origin = typing.get_origin(returned) or returned
    layers = list(_layers(function))
    streams = origin in (*_ITERATORS, *_ASYNC_ITERATORS) or any(map(_is_generator_function, layers))
    on_loop = origin in _ASYNC_ITERATORS or any(
        inspect.iscoroutinefunction(layer) or inspect.isasyncgenfunction(layer) for layer in layers
    )
    if not streams and (limits.first_item_timeout or limits.idle_timeout):
        raise ExposeError("first_item_timeout and idle_timeout are for streams, and it gives one value")
    value_type = response_model
    if value_type is None:
        value_type = (
            _item_type(returned, origin, on_loop=on_loop) if streams else _value_type(signature, returned, origin)
        )
    return Procedure(
        service=service,
        name=name,
        path=rpc_path(service, name),
        function=function,
        signature=signature,
        doc=inspect.getdoc(layers[-1]) or "",
        streams=streams,
        threaded=not on_loop,
        idempotent=idempotent,
        value_type=value_type,
        arguments=Arguments(signature),
        value=_value(value_type, "item" if streams else "value"),
        limits=limits,
    )


def check_function(function: object) -> None:
    """Raise ExposeError where ``function`` isn't something that can be called by its arguments alone."""
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, type):
        raise ExposeError("it is a class: expose a function, or a method of an instance")
    if not inspect.isroutine(function):
        raise ExposeError("expose takes a function, a bound method or a functools.partial")
    if isinstance(function, staticmethod | classmethod):
        raise ExposeError("expose it from outside of the class, as the class's attribute")
    if inspect.isfunction(function):
        inside = function.__qualname__.rpartition(".")[0]
        first = next(iter(inspect.signature(function).parameters), None)
        if first in ("self", "cls") and inside and not inside.endswith("<locals>"):
            raise ExposeError(
                f"it needs an instance for {first!r}: expose the bound method of one, outside of the class"
            )


def own_name(function: Callable[..., Any]) -> str:
    """The name that a function, a bound method or a partial of one was defined with."""
    while isinstance(function, functools.partial):
        function = function.func
    return function.__name__


def is_defined_in(function: Callable[..., Any], frame: types.FrameType) -> bool:
    """Whether a function was defined by the code that runs in a frame, at any depth."""
    *_, innermost = _layers(function)
    return getattr(innermost, "__globals__", None) is frame.f_globals and innermost.__qualname__.startswith(
        f"{frame.f_code.co_qualname}."
    )


def _layers(function: Any) -> Iterator[Any]:
    """A callable and what it wraps, the outermost first."""
    while function is not None:
        yield function
        if isinstance(function, functools.partial):
            function = function.func
        else:
            function = getattr(function, "__wrapped__", None) or getattr(function, "__func__", None)


def _is_generator_function(function: object) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def resolved_signature(function: Callable[..., Any], namespace: Mapping[str, Any]) -> inspect.Signature:
    """The signature of a function, with annotations that hold no unresolved names.

    Raises:
        ExposeError: its parameters can't be known.
        NameError: an annotation names something that isn't defined (yet).
    """
    try:
        signature = inspect.signature(function)
    except ValueError:
        raise ExposeError("its parameters can't be known: write a Python function around it") from None

    def stand_in() -> None: ...

    annotations = {p.name: p.annotation for p in signature.parameters.values() if p.annotation is not p.empty}
    if signature.return_annotation is not signature.empty:
        annotations["return"] = signature.return_annotation
    stand_in.__annotations__ = annotations
    *_, innermost = _layers(function)
    # The type parameters of `def f[T](...)` are names of their own.
    local = {**namespace, **{parameter.__name__: parameter for parameter in getattr(innermost, "__type_params__", ())}}
    hints = typing.get_type_hints(stand_in, getattr(innermost, "__globals__", {}), local, include_extras=True)
    return signature.replace(
        parameters=[p.replace(annotation=hints.get(p.name, p.empty)) for p in signature.parameters.values()],
        return_annotation=hints.get("return", signature.empty),
    )


def _bare(annotation: Any) -> Any:
    """An annotation without its aliases (``type Tokens = ...``) and, around an iterator, ``Annotated``: to see whether
    it is an iterator. Where it isn't, Pydantic has to see the alias, which can be recursive.
    """
    while True:
        if hasattr(annotation, "__value__"):
            annotation = annotation.__value__
        elif typing.get_origin(annotation) is typing.Annotated and typing.get_origin(annotation.__origin__) in (
            *_ITERATORS,
            *_ASYNC_ITERATORS,
        ):
            annotation = annotation.__origin__
        else:
            return annotation


def _item_type(returned: Any, origin: Any, *, on_loop: bool) -> Any:
    if origin in (*_ITERATORS, *_ASYNC_ITERATORS, collections.abc.Iterable):
        return next(iter(typing.get_args(returned)), Any)
    if returned in (inspect.Signature.empty, Any):
        return Any
    iterator = "AsyncIterator" if on_loop else "Iterator"
    name = inspect.formatannotation(returned)
    raise ExposeError(
        f"it is a generator, which gives a stream, but is annotated with {name}: write {iterator}[{name}], with the "
        "type of one item"
    )


def _value_type(signature: inspect.Signature, returned: Any, origin: Any) -> Any:
    if signature.return_annotation is inspect.Signature.empty:
        return Any
    if origin is collections.abc.Iterable:  # one value that is many: Pydantic would hand on an iterator for one reading
        return types.GenericAlias(list, next(iter(typing.get_args(returned)), Any))
    return signature.return_annotation


def _value(annotation: Any, what: str) -> Value:
    try:
        return Value(annotation)
    except ExposeError:
        raise
    except UNREADABLE as error:
        raise ExposeError(
            f"Pydantic can't read the type of its {what}, {annotation!r}: use a type that JSON can carry, or name one "
            f"with expose(response_model=...) ({reason(error)})"
        ) from error

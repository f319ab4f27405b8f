"""A service: the functions that were chosen to be called from outside, in the order in which they were exposed."""

import inspect
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar, overload

from ephaptic_grpc.binary import warn_of_text
from ephaptic_grpc.errors import ExposeError
from ephaptic_grpc.limits import JSON_BYTES, FunctionLimits
from ephaptic_grpc.names import check_function_name, check_service_name, rpc_name, rpc_path
from ephaptic_grpc.procedure import Procedure, check_function, inspect_function, is_defined_in, own_name

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class _Exposed:
    """A function whose annotations name what isn't defined yet, and where to look for it later."""

    function: Callable[..., Any]
    response_model: object
    limits: FunctionLimits
    idempotent: bool
    frame: types.FrameType


class Service:
    """A named collection of procedures.

    Args:
        name: package and name, such as ``chat.v1.ChatService``. It is a part of every path on the wire, so that
            changing it breaks callers.

    Raises:
        TypeError, ValueError: the name isn't of that form.
    """

    def __init__(self, name: str) -> None:
        check_service_name(name)
        self.name: Final = name
        self._procedures: dict[str, Procedure | _Exposed] = {}
        self._rpcs: dict[str, str] = {}
        """The names of the procedures by those of their RPCs, which no two may share."""

    def __repr__(self) -> str:
        return f"<Service {self.name}: {', '.join(self._procedures) or 'nothing exposed'}>"

    @overload
    def expose(self, function: F, /) -> F: ...
    @overload
    def expose(
        self,
        /,
        *,
        name: str | None = None,
        response_model: object = None,
        idempotent: bool = False,
        request_bytes: int | None = None,
        reply_bytes: int | None = None,
        first_item_timeout: float | None = None,
        idle_timeout: float | None = None,
    ) -> Callable[[F], F]: ...

    def expose(
        self,
        function: F | None = None,
        /,
        *,
        name: str | None = None,
        response_model: object = None,
        idempotent: bool = False,
        request_bytes: int | None = None,
        reply_bytes: int | None = None,
        first_item_timeout: float | None = None,
        idle_timeout: float | None = None,
    ) -> F | Callable[[F], F]:
        """Expose a function on this service: ``@service.expose`` or ``@service.expose(name=..., response_model=...)``.

        The function itself comes back unchanged. One that returns a value becomes a unary RPC. A generator, or a
        function annotated to return an iterator, becomes a server-streaming RPC; ``Iterable`` is one value.

        Args:
            function: a function, a bound method or a ``functools.partial``; synchronous or not.
            name: what clients call it, in place of its own name.
            response_model: the type of its value, or of each item, in place of what it is annotated with.
            idempotent: whether running it twice is as good as once. Then clients make a call again, a few times, where
                a server could not be reached or died before anything came back. Without it, a call that may have
                begun to run is never made again.
            request_bytes: bytes of JSON that its arguments have at most. This and what follows stand in place of the
                server's own ``Limits``.
            reply_bytes: bytes of JSON that its value, or one item, has at most.
            first_item_timeout: of a stream: seconds to its first item.
            idle_timeout: of a stream: seconds that it takes for one more item, or to end.

        Raises:
            TypeError, ValueError: ``idempotent`` is neither True nor False, or a limit is none.
            ExposeError: it can't be exposed; the message says which function, which parameter, and what to do.
                Where an annotation names something that is defined further down, its types are checked when
                they are first needed: at the latest when a server starts.
        """
        # The caller's names may be needed for annotations: classes can be local to the function that exposes.
        frame = sys._getframe(1)
        if not isinstance(idempotent, bool):
            raise TypeError(f"idempotent is True or False, not {idempotent!r}")
        limits = FunctionLimits(
            request_bytes=request_bytes,
            reply_bytes=reply_bytes,
            first_item_timeout=first_item_timeout,
            idle_timeout=idle_timeout,
        )

        def add(function: F) -> F:
            self._expose(name, _Exposed(function, response_model, limits, idempotent, frame))
            return function

        if function is None:
            return add
        # At the same depth as in add: warnings count frames.
        self._expose(name, _Exposed(function, response_model, limits, idempotent, frame))
        return function

    @property
    def exposes_anything(self) -> bool:
        """Whether a function was exposed here."""
        return bool(self._procedures)

    @property
    def reply_bytes(self) -> int:
        """Bytes of JSON of the largest reply that a function was given leave for; at least the usual limit."""
        return max([JSON_BYTES, *(exposed.limits.reply_bytes or 0 for exposed in self._procedures.values())])

    @property
    def procedures(self) -> Mapping[str, Procedure]:
        """Every procedure by name, in the order of exposure.

        Raises:
            ExposeError: an annotation names something that is still not defined.
        """
        return {name: self._resolve(name) for name in self._procedures}

    def procedure(self, name: str) -> Procedure:
        """The procedure of this name.

        Raises:
            KeyError: there is none.
            ExposeError: an annotation names something that is still not defined.
        """
        return self._resolve(name)

    @property
    def idempotent_paths(self) -> list[str]:
        """The paths of the functions that may run twice; their annotations need not be defined yet."""
        return [rpc_path(self.name, name) for name, exposed in self._procedures.items() if exposed.idempotent]

    def procedure_of(self, function: Callable[..., Any]) -> Procedure:
        """The procedure that a function was exposed as.

        Raises:
            LookupError: it isn't exposed on this service.
        """
        for procedure in self.procedures.values():
            if procedure.function == function:
                return procedure
        raise LookupError(f"{_shown(function)} is not exposed on {self.name}")

    def _expose(self, name: str | None, exposed: _Exposed) -> None:
        function = exposed.function
        try:
            check_function(function)
            called = own_name(function) if name is None else name
            check_function_name(called)
            rpc = rpc_name(called)
            if rpc in self._rpcs:
                raise ExposeError(f"its RPC would be {rpc}, as is that of {self._rpcs[rpc]!r}: pass expose(name=...)")
        except (ExposeError, ValueError) as error:
            raise self._refusal(function, error) from None
        self._rpcs[rpc] = called
        self._procedures[called] = exposed
        try:
            self._resolve(called, stacklevel=4)
        except BaseException as error:  # also of code that a type describes itself with
            if not isinstance(error, ExposeError) or not isinstance(error.__cause__, NameError):
                del self._procedures[called], self._rpcs[rpc]
                raise

    def _resolve(self, name: str, stacklevel: int = 3) -> Procedure:
        exposed = self._procedures[name]
        if isinstance(exposed, Procedure):
            return exposed
        function, frame = exposed.function, exposed.frame
        # Only where it was defined there itself: elsewhere the same name can be another class.
        namespace = frame.f_locals if is_defined_in(function, frame) else {}
        try:
            procedure = inspect_function(
                function,
                self.name,
                name,
                exposed.response_model,
                namespace,
                exposed.limits,
                idempotent=exposed.idempotent,
            )
        except ExposeError as error:
            raise self._refusal(function, error) from error.__cause__
        except NameError as error:
            reason = str(error).splitlines()[0]
            raise self._refusal(function, f"its annotations name what is not defined: {reason}") from error
        self._procedures[name] = procedure
        for schema in (procedure.arguments.schema, procedure.value.schema):
            warn_of_text(schema, f"{self.name}, {_shown(function)}", stacklevel)
        return procedure

    def _refusal(self, function: object, reason: object) -> ExposeError:
        said = f"{_shown(function)} can't be exposed on {self.name}: {reason}"
        if _looks_like_a_wrapper(function):
            said += ". Where a decorator made it, functools.wraps there gives it the parameters of what it wraps"
        return ExposeError(said)


def meant_in(given: object, also: Callable[[object], bool] = lambda _: False) -> str:
    """``pass bot.chat``, the service in a module that is given in place of one; empty where there is none.

    Args:
        given: what was given in place of a service.
        also: what else would have been right.
    """
    if not isinstance(given, types.ModuleType):
        return ""
    found = (f"{given.__name__}.{name}" for name, it in vars(given).items() if isinstance(it, Service) or also(it))
    meant = " or ".join(found)
    return meant and f"pass {meant}"


def _shown(function: object) -> str:
    """``search (app.py:12)``"""
    target = inspect.unwrap(function) if callable(function) else function
    target = getattr(target, "func", target)
    name = getattr(target, "__qualname__", None) or repr(function)
    code = getattr(target, "__code__", None)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else str(name)


def _looks_like_a_wrapper(function: object) -> bool:
    """Whether it takes ``*args, **kwargs`` and nothing else, and doesn't say what it wraps."""
    if not inspect.isfunction(function) or hasattr(function, "__wrapped__"):
        return False
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    return kinds == [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]


default_service: Final = Service("functions.v1.FunctionsService")
"""Where functions go that are exposed without naming a service."""

expose: Final = default_service.expose

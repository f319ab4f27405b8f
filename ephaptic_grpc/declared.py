"""The functions that a generated client declares: a signature, a docstring, and what ``declared`` says of them."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar, cast, get_args, get_origin

from ephaptic_grpc.arguments import Arguments
from ephaptic_grpc.limits import JSON_BYTES
from ephaptic_grpc.names import rpc_path
from ephaptic_grpc.payload import CONTRACT_KEY
from ephaptic_grpc.procedure import resolved_signature
from ephaptic_grpc.remote import BaseClient, Functions, Method, unknown
from ephaptic_grpc.values import Value

F = TypeVar("F", bound=Callable[..., Any])


def declared(contract: str, *, idempotent: bool = False) -> Callable[[F], F]:
    """Make a remote function of a method that only declares one.

    Args:
        contract: the hash of the function's contract, which goes with each call: from it the server knows, where
            arguments don't fit, whether the client was generated from an older contract.
        idempotent: whether running it twice is as good as once.
    """

    def declare(function: F) -> F:
        return cast("F", Declaration(function, contract, idempotent=idempotent))

    return declare


class Declaration:
    """A method of a generated client's class. An instance gets what calls the function."""

    def __init__(self, function: Callable[..., Any], contract: str, *, idempotent: bool) -> None:
        self.function = function
        self.idempotent = idempotent
        self._contract = contract
        self._methods: dict[str, Method] = {}

    def __get__(self, client: BaseClient | None, owner: type[BaseClient]) -> Any:
        if client is None:
            return self.function
        call = client._callable(self.method(owner))
        vars(client)[self.function.__name__] = call  # found there from now on
        return call

    def method(self, owner: type[BaseClient]) -> Method:
        """The function, inspected when it is first called: importing a client costs next to nothing."""
        method = self._methods.get(owner._service)
        if method is None:
            signature = resolved_signature(self.function, {})
            _, *parameters = signature.parameters.values()
            returned = signature.return_annotation
            origin = get_origin(returned)
            streams = isinstance(origin, type) and issubclass(origin, AsyncIterator | Iterator)
            arguments = Arguments(signature.replace(parameters=parameters))
            value = Value(get_args(returned)[0] if streams else returned)
            name = self.function.__name__
            path = rpc_path(owner._service, name)
            load_all = value.load_all if streams else None
            contract = ((CONTRACT_KEY, self._contract),)
            method = Method(name, path, streams, arguments.dump, value.load, load_all, contract)
            self._methods[owner._service] = method
        return method


@dataclass(frozen=True, slots=True)
class _Declarations:
    owner: type[BaseClient]
    declarations: Mapping[str, Declaration]
    reply_bytes: int = JSON_BYTES

    @property
    def idempotent_paths(self) -> list[str]:
        service, declarations = self.owner._service, self.declarations
        return [rpc_path(service, name) for name, declaration in declarations.items() if declaration.idempotent]

    def method(self, name: str) -> Method:
        declaration = self.declarations.get(name)
        if declaration is None:
            raise unknown(self.owner._service, name, self.declarations)
        return declaration.method(self.owner)


def declarations_of(client: type[BaseClient]) -> Functions:
    """The functions that a generated client declares.

    Raises:
        TypeError: it declares none: it isn't a generated client.
    """
    if not client._service:
        raise TypeError(f"{client.__name__} is no generated client: connect takes one, a Service, or the name of one")
    members = chain.from_iterable(vars(base).items() for base in reversed(client.__mro__))
    return _Declarations(client, {name: member for name, member in members if isinstance(member, Declaration)})

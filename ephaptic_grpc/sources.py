"""What a command is pointed at: modules and their services, descriptor sets, running servers."""

import importlib
import os
import re
import sys
import traceback
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final

import grpc

from ephaptic_grpc.contract import Contract
from ephaptic_grpc.descriptors import read_descriptor_set
from ephaptic_grpc.errors import CallError, ExposeError
from ephaptic_grpc.names import suggestion
from ephaptic_grpc.reflection import contracts_of
from ephaptic_grpc.service import Service, default_service
from ephaptic_grpc.targets import check_target
from ephaptic_grpc.tls import ClientTLS

DESCRIPTOR_SET: Final = ".binpb"
"""What the name of a file with a descriptor set ends with."""

_NO_SOURCES: Final = {".json", ".proto", ".pb", ".bin", ".ts"}
"""What the names of files end with that show a contract, or look like a descriptor set: none is read."""

_ADDRESS: Final = re.compile(r"[a-z][a-z0-9+.-]*://.*|unix(?:-abstract)?:.+|.*:\d+", re.IGNORECASE)
_ANSWER_SECONDS: Final = 10.0


class SourceError(Exception):
    """There is nothing to use. The message says what was wrong, and what would be right.

    Attributes:
        misused: whether the source was written wrongly, so that it could never be right.
    """

    def __init__(self, message: str, *, misused: bool = False) -> None:
        super().__init__(message)
        self.misused = misused


class NoModuleError(SourceError):
    """There is no module of a name."""


def is_address(source: str) -> bool:
    """Whether a source is meant for a running server: ``host:port``, or what has a scheme, such as ``unix:path``."""
    return _ADDRESS.fullmatch(source) is not None


def contract_of(source: str, service: str | None, tls: ClientTLS | None = None) -> Contract:
    """The contract in ``module:service``, a module, a descriptor set or a running server.

    Args:
        source: where it is.
        service: the full name of the service, which is needed where there are several.
        tls: how a running server is connected to; None is plaintext.

    Raises:
        SourceError: there is no such contract, or more than one.
    """
    found = {contract.service: contract for contract in _contracts(source, tls)}
    if service is not None:
        if service not in found:
            raise SourceError(f"{source} has no service {service!r}{_instead(service, found)}")
        return found[service]
    if len(found) != 1:
        what = f"has several services: choose one with --service ({', '.join(found)})" if found else "has no contract"
        raise SourceError(f"{source} {what}")
    return next(iter(found.values()))


def _contracts(source: str, tls: ClientTLS | None) -> list[Contract]:
    try:
        if source.endswith(DESCRIPTOR_SET):
            return read_descriptor_set(Path(source).read_bytes())
        if is_address(source):
            _check_target(source)
            return contracts_of(source, _ANSWER_SECONDS, tls or False)
    except OSError as error:
        read = error.strerror if is_address(source) else f"can't read {source}: {error.strerror}"  # a file of TLS
        raise SourceError(read or "") from None
    except ValueError as error:
        raise SourceError(f"{source}: {error}") from None
    except CallError as error:
        told = f"{source}: {error}"
        if error.code is grpc.StatusCode.UNIMPLEMENTED:
            told = f"{source} tells nothing of its services: serve with --reflection, or Server(reflection=True)"
        raise SourceError(told) from None
    try:
        return [Contract.of(service) for service in services_of([source])]
    except NoModuleError as error:
        told = f"{error}; a server that runs is host:port, such as localhost:50051"
        if Path(source).suffix in _NO_SOURCES or Path(source).is_file():
            written = f"a descriptor set (written by compile MODULE -o FILE{DESCRIPTOR_SET})"
            told = f"{source} can't be read as a contract: name {written}, a running server (host:port), or a module"
        raise SourceError(told, misused=error.misused) from None


def _check_target(source: str) -> None:
    try:
        check_target(source)
    except ValueError as error:
        raise SourceError(str(error), misused=True) from None


def _instead(name: str, known: Collection[str]) -> str:
    """What is there in place of what isn't."""
    return suggestion(name, known) or f" (it has {', '.join(known) or 'none'})"


def services_of(modules: Sequence[str]) -> list[Service]:
    """The services that ``MODULE`` or ``MODULE:SERVICE`` name, each once; all their types are known.

    Raises:
        SourceError: a module can't be imported, has no such service, or exposes nothing.
    """
    if "" not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    services: list[Service] = []
    for target in modules:
        name, _, attribute = target.partition(":")
        module = _import(name)
        found = {key: value for key, value in vars(module).items() if isinstance(value, Service)}
        if attribute and attribute not in found:
            raise SourceError(f"{name} has no service {attribute!r}{_instead(attribute, found)}")
        chosen = [found[attribute]] if attribute else [*found.values(), default_service]
        services += [service for service in dict.fromkeys(chosen) if service not in services]
    exposing = [service for service in services if service is not default_service or service.exposes_anything]
    if not exposing:
        raise SourceError(f"{', '.join(modules)} exposes nothing: put @expose on a function, or make a Service")
    try:
        for service in exposing:
            _ = service.procedures  # whose types may not have been defined when they were exposed
    except ExposeError as error:
        raise SourceError(str(error)) from None
    return exposing


def _import(name: str) -> Any:
    if not name or name.startswith("."):
        raise NoModuleError(f"{name!r} is no module: name one, such as 'chat' or 'app.rpc:chat'", misused=True)
    if Path(name).is_file() and Path(name).suffix not in ("", ".py"):
        raise NoModuleError(f"{name!r} is a file: name a module, such as 'chat' or 'app.rpc:chat'", misused=True)
    if name.endswith(".py") or os.sep in name:
        dotted = ".".join(Path(name).with_suffix("").parts)
        raise SourceError(f"{name!r} is a file: name the module, such as {dotted!r}", misused=True)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            told = f"there is no module {name!r} here ({Path.cwd()}) or among the installed ones"
            module, _, service = name.rpartition(".")
            if isinstance(getattr(sys.modules.get(module), service, None), Service):
                raise SourceError(f"{told}: its service is {module}:{service}", misused=True) from None
            raise NoModuleError(told) from None
        raise SourceError(_import_failure(name, error)) from None  # the module is there, and imports one that isn't
    except ExposeError as error:
        raise SourceError(str(error)) from None
    except Exception as error:
        raise SourceError(_import_failure(name, error)) from None


def _import_failure(name: str, error: Exception) -> str:
    """Why a module can't be imported: the traceback from its own first frame on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(
        (__file__, importlib.__file__, "<frozen")
    ):
        frames = frames.tb_next
    lines = traceback.format_exception(type(error), error.with_traceback(frames), frames)
    return f"{name} can't be imported:\n{''.join(lines).rstrip()}"

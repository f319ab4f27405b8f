"""What things may be called: functions, the RPCs they become, services, and the files that describe them."""

import keyword
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

CLIENT_ATTRIBUTES: Final = frozenset({"bind", "call", "close", "with_options"})
"""The names that every client needs for itself."""

_FUNCTION = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_SERVICE = re.compile(r"(?:[A-Za-z][A-Za-z0-9_]*\.)+[A-Z][A-Za-z0-9]*", re.ASCII)


def check_function_name(name: str) -> None:
    """Raise ValueError, saying what would be right, where ``name`` can't be the name of an exposed function."""
    if name == "<lambda>":
        raise ValueError("a lambda has no name: write a function, or pass expose(name=...)")
    if name.startswith("_"):
        raise ValueError("a name that begins with an underscore is private: rename it, or pass expose(name=...)")
    if not _FUNCTION.fullmatch(name):
        raise ValueError("a name is made of ASCII letters, digits and underscores: pass expose(name=...)")
    if keyword.iskeyword(name) or keyword.iskeyword(rpc_name(name)):
        raise ValueError("it, or its RPC, would be a keyword of Python: pass expose(name=...)")
    if name in CLIENT_ATTRIBUTES:
        raise ValueError(f"every client has a {name!r} of its own: pass expose(name=...)")


def check_service_name(name: str) -> None:
    """Raise TypeError or ValueError where ``name`` isn't a package and a service, such as ``chat.v1.ChatService``."""
    if not isinstance(name, str):
        raise TypeError(f"a service's name is text, such as 'chat.v1.ChatService', not {name!r}")
    if not _SERVICE.fullmatch(name):
        raise ValueError(
            "a service's name is its package and its own name in PascalCase, such as 'chat.v1.ChatService', "
            f"not {name!r}"
        )
    parts = name.split(".")
    if "ephaptic_grpc" in parts or any(map(keyword.iskeyword, parts)):
        raise ValueError(f"{name!r} has a part that stubs can't have: 'ephaptic_grpc', or a keyword of Python")


def rpc_name(function: str) -> str:
    """The RPC of a function: ``ai_response`` becomes ``AiResponse``.

    The rule: split at underscores, make the first letter of each part a capital, leave every other character
    as it is, and join. So ``get_user2`` is ``GetUser2``, ``v2_list`` is ``V2List``, ``getHTTP`` is ``GetHTTP``.
    """
    return "".join(part[:1].upper() + part[1:] for part in function.split("_"))


def rpc_path(service: str, function: str) -> str:
    """The path of a function on the wire: ``/chat.v1.ChatService/AiResponse``."""
    return f"/{service}/{rpc_name(function)}"


def proto_file(service: str) -> str:
    """The file that describes a service: ``chat.v1.ChatService`` is in ``chat/v1/chat.proto``."""
    package, _, own = service.rpartition(".")
    own = own.removesuffix("Service") or own
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", own).lower()
    return f"{package.replace('.', '/')}/{snake}.proto"


def suggestion(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` where one of the ``known`` names is close, else an empty string."""
    close = get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""

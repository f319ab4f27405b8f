"""Where a server is, as gRPC writes it: ``localhost:50051``, ``[::1]:50051``, ``unix:chat.sock``, ``dns:///chat:50051``."""

import re
from ipaddress import IPv6Address
from typing import Final

# Of gRPC's resolvers. It takes any other for a host, and says at the first call that there is none.
_SCHEME: Final = re.compile(r"(?:dns|unix|unix-abstract|vsock|ipv4|ipv6|xds|google-c2p):.+", re.IGNORECASE)
_HOST_PORT: Final = re.compile(r"(?:[^\s/:\[\]]+|\[[^\s/\[\]]+\]):(?P<port>\d{1,5}|https?)")
_URL: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[^/?#]*).*", re.IGNORECASE)
_LAST_PORT: Final = 65535


def check_target(target: str) -> None:
    """Check that a target can be a server.

    Raises:
        TypeError: it is no text.
        ValueError: it can't be one; the message says what would be right.
    """
    if not isinstance(target, str):
        raise TypeError(f"a target is text, such as 'localhost:50051', not {target!r}")
    if not _SCHEME.fullmatch(target) and not _is_host_port(target):
        said = f"a target is host:port, such as localhost:50051, not {target!r}"
        hint = _meant(target)
        raise ValueError(f"{said}: write {hint}" if hint else said)


def _is_host_port(text: str) -> bool:
    found = _HOST_PORT.fullmatch(text)
    return found is not None and (not found["port"].isdecimal() or 0 < int(found["port"]) <= _LAST_PORT)


def _meant(target: str) -> str:
    """What would be right, where that can be told."""
    url = _URL.fullmatch(target)
    if url is not None:
        secure = url["scheme"].lower() in ("https", "grpcs")
        host = url["host"] if _is_host_port(url["host"]) else f"{url['host']}:{443 if secure else 50051}"
        secured = ", and give tls=True (--tls)" if secure else ""
        return f"{host!r}{secured}" if _is_host_port(host) else ""
    if "/" in target and ":" not in target:
        return repr(f"unix:{target}")
    if target.removeprefix(":").isdecimal():
        guesses = [f"localhost:{target.removeprefix(':')}"]
    elif target.count(":") > 1:
        address, _, port = target.rpartition(":")
        guesses = [f"[{host}]:{port}" for host, port in ((target, "50051"), (address, port)) if _is_ipv6(host)]
    else:
        guesses = [f"{target}:50051"]
    return next((repr(guess) for guess in guesses if _is_host_port(guess)), "")


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True

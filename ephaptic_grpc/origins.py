"""The pages of other sites that may call: what an origin is, and the headers that go to and fro."""

import re
from collections.abc import Iterable
from typing import Final

ALLOWED_HEADERS: Final = (
    "content-type",
    "x-grpc-web",
    "x-user-agent",
    "grpc-timeout",
    "authorization",
    "ephaptic-batch",
    "ephaptic-contract",
    "ephaptic-heartbeat",
)
"""What a page may send."""

EXPOSED_HEADERS: Final = ("grpc-status", "grpc-message", "grpc-status-details-bin")
"""What it may read: an error before the first item comes as headers."""

_ORIGIN: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::(?P<port>[1-9]\d{0,4}))?", re.ASCII
)
_HEADER: Final = re.compile(r"[a-z0-9!#$&'*+.^_`|~-]+", re.ASCII)


def check_pages(origins: Iterable[str], headers: Iterable[str]) -> None:
    """Raise ValueError, saying what would be right, where one is no origin, or no name of a header."""
    for origin in origins:
        found = _ORIGIN.fullmatch(origin)
        if found is None or (found["scheme"], found["port"]) in (("http", "80"), ("https", "443")):
            raise ValueError(
                f"an origin is exactly what browsers send, such as https://app.example.com, not {origin!r}"
            )
    for header in headers:
        if not _HEADER.fullmatch(header) or header == "*":
            raise ValueError(f"a header's name is like x-tenant, in lower case, not {header!r}")

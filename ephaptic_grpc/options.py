"""How calls are made: their deadline, and the metadata that go with them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import isnan
from typing import Final, Self, cast

from ephaptic_grpc.limits import AHEAD_BYTES
from ephaptic_grpc.payload import BATCH_ASKED, HEARTBEAT_KEY, KIND_ASKED

Metadata = Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]]
Pairs = tuple[tuple[str, str | bytes], ...]

_LONGEST_TIMEOUT: Final = 1e9
"""Seconds; gRPC takes a longer one for a deadline that has passed."""

_KEY: Final = re.compile(r"[0-9a-z_.-]+")
_TEXT: Final = re.compile(r"[\x20-\x7e]*")


class Keep:
    """The type of ``KEEP``."""

    def __repr__(self) -> str:
        return "<as it is>"


KEEP: Final = Keep()
"""Of ``with_options``: what isn't given stays as it is."""


@dataclass(frozen=True, slots=True)
class Options:
    """How calls are made.

    Attributes:
        timeout: seconds to a call's deadline; None for none.
        metadata: goes with each call.
        batches: whether several items of a stream may come in one message.
    """

    timeout: float | None
    metadata: Pairs
    batches: bool = True

    @classmethod
    def of(cls, timeout: float | None, metadata: Metadata) -> Self:
        if not isinstance(timeout, int | float | None) or isinstance(timeout, bool):
            raise TypeError(f"timeout is a number of seconds or None, not {timeout!r}")
        if timeout is not None and (isnan(timeout) or timeout < 0):
            raise ValueError(f"timeout is a number of seconds, 0 or more, or None, not {timeout!r}")
        if timeout is not None and timeout > _LONGEST_TIMEOUT:
            timeout = None
        lowered = tuple((key.lower(), value) for key, value in _pairs(metadata))  # HTTP/2 has no capitals here
        for key, value in lowered:
            _check_metadata(key, value)
        return cls(timeout, lowered)

    def but(self, timeout: float | Keep | None, metadata: Metadata | Keep) -> Self:
        changed = self if isinstance(timeout, Keep) else replace(self, timeout=self.of(timeout, ()).timeout)
        if isinstance(metadata, Keep):
            return changed
        added = self.of(None, metadata).metadata
        keys = {key for key, _ in added}
        return replace(changed, metadata=(*(pair for pair in self.metadata if pair[0] not in keys), *added))

    def within(self, reply_bytes: int | None) -> Self:
        """The same, of a client that takes so many bytes of JSON in one reply (None for the usual).

        Several items together have up to ``AHEAD_BYTES`` and what frames them, each of which may be small enough.
        """
        return replace(self, batches=reply_bytes is None or reply_bytes > 2 * AHEAD_BYTES)

    def of_stream(self, metadata: Pairs) -> Pairs:
        """The metadata of a call that streams."""
        return (*metadata, BATCH_ASKED) if self.batches else metadata

    def of_either(self, metadata: Pairs) -> Pairs:
        """The metadata of a call that asks whether it streams."""
        return (*self.of_stream(metadata), KIND_ASKED)


def wants_heartbeats(metadata: Pairs) -> bool:
    """Whether metadata ask for messages without an item."""
    return any(key == HEARTBEAT_KEY for key, _ in metadata)


def _pairs(metadata: Metadata) -> Iterable[tuple[str, str | bytes]]:
    """Metadata as pairs. What is none isn't repeated: it can be a token.

    Raises:
        TypeError: it isn't made of pairs.
    """
    given: object = metadata.items() if isinstance(metadata, Mapping) else metadata
    pairs = [*given] if isinstance(given, Iterable) else [None]
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], str):
            example = "such as {'x-tenant': 'a'} or [('x-tenant', 'a')]"
            given_type = type(metadata).__name__
            raise TypeError(f"metadata is pairs of a key and a value, {example}: this {given_type} isn't made of them")
    return cast("list[tuple[str, str | bytes]]", pairs)


def _check_metadata(key: str, value: str | bytes) -> None:
    """Refuse what no header can carry. grpc doesn't say which key it was; an older one lets a stream wait for ever."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} can't be a key of metadata: it has letters, digits, '-', '_' and '.' only")
    if key.endswith("-bin"):
        if not isinstance(value, bytes):
            raise TypeError(f"metadata {key!r} must be bytes, as that of every key that ends with '-bin'")
    elif not isinstance(value, str | bytes):
        raise TypeError(f"metadata {key!r} must be text, not {type(value).__name__}")
    elif not _TEXT.fullmatch(value if isinstance(value, str) else value.decode("latin-1")):
        raise ValueError(f"metadata {key!r} must be printable ASCII: send anything else as bytes under '{key}-bin'")

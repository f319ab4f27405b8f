"""One call in flight, as the function that serves it can see it."""

import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Protocol, Self

import grpc
from grpc.aio import Metadata

from ephaptic_grpc.errors import ServiceError
from ephaptic_grpc.procedure import Procedure

_CONTROL: Final = re.compile(r"[\x00-\x08\n-\x1f\x7f\u2028\u2029]")


class Transport(Protocol):
    """What a call needs of the edge that it came through; a ``grpc.aio.ServicerContext`` has it."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...
    def time_remaining(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """Who a caller is, by the certificate that mutual TLS made it prove. An authority of ``client_ca`` issued it.

    Attributes:
        common_name: that of its subject, the first where there are several; None where there is none.
        dns_names: those of its alternative names that are names of hosts.
        uris: those that are URIs, such as a SPIFFE ID.
        emails: those that are email addresses.
        ip_addresses: those that are IP addresses.
        certificate: all of it, as PEM.
    """

    common_name: str | None
    dns_names: tuple[str, ...]
    uris: tuple[str, ...]
    emails: tuple[str, ...]
    ip_addresses: tuple[str, ...]
    certificate: str

    @classmethod
    def of(cls, told: Mapping[str, Iterable[bytes]]) -> Self | None:
        """What gRPC tells of a connection (its ``auth_context``); None where the caller has shown no certificate."""

        def texts(key: str) -> tuple[str, ...]:
            # What isn't UTF-8 must not look like another name.
            return tuple(value.decode("utf-8", "backslashreplace") for value in told.get(key, ()))

        certificate = texts("x509_pem_cert")
        if not certificate:
            return None
        return cls(
            common_name="".join(texts("x509_common_name")) or None,
            dns_names=texts("peer_dns"),
            uris=texts("peer_uri"),
            emails=texts("peer_email"),
            ip_addresses=texts("peer_ip"),
            certificate=certificate[0],
        )


class Call:
    """One call in flight.

    Attributes:
        procedure: what is called.
    """

    __slots__ = ("_metadata", "_transport", "procedure")

    def __init__(self, procedure: Procedure, transport: Transport) -> None:
        self.procedure = procedure
        self._transport = transport
        self._metadata: Metadata | None = None

    @property
    def metadata(self) -> Metadata:
        """What the caller sent besides the arguments: a mapping whose keys can repeat (``get_all``).

        Raises:
            ServiceError: INVALID_ARGUMENT, where a text has a control character or a line break. gRPC lets them in, and
                they have no place in a log or in a header.
        """
        if self._metadata is None:
            pairs = tuple(self._transport.invocation_metadata() or ())
            for key, value in pairs:
                if isinstance(value, str) and _CONTROL.search(value):
                    raise ServiceError(grpc.StatusCode.INVALID_ARGUMENT, f"the metadata {key!r} must be printable text")
            self._metadata = Metadata(*pairs)
        return self._metadata

    def remaining(self) -> float | None:
        """Seconds until the caller's deadline, 0 when it has passed, or None where there is none.

        gRPC reckons it from when the call came in, on the server's clock: it can be some milliseconds more than the
        caller's own timeout.
        """
        return self._transport.time_remaining()

    @property
    def peer_identity(self) -> PeerIdentity | None:
        """Who the caller is, where the server asks for certificates (``TLS(client_ca=...)``); None everywhere else.

        It is who connected: behind a proxy that is the proxy.
        """
        return None


_current: Final[ContextVar[Call]] = ContextVar("ephaptic_grpc_call")
enter_call: Final = _current.set
"""Make a call the current one of this context. Only what starts a call may do so."""

leave_call: Final = _current.reset
"""Undo that, with what it gave: for what starts a call in a task that isn't its own."""


def current_call() -> Call:
    """The call that is being served: in a function, in what it awaits, in the tasks and threads it starts.

    Raises:
        LookupError: no call is being served here.
    """
    try:
        return _current.get()
    except LookupError:
        raise LookupError(
            "no call is being served here: current_call() is for functions that a client called"
        ) from None

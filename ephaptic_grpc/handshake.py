"""Why a client can't connect: a handshake of its own, once gRPC's has failed, says what gRPC's words don't."""

import asyncio
import errno
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final

import grpc

from ephaptic_grpc.connections import ChannelOptions
from ephaptic_grpc.errors import CallError
from ephaptic_grpc.tls import ClientTLS, client_credentials, date_of, trusting

_STEP_SECONDS: Final = 1.0
"""What connecting, a handshake, and what the server says after it may take, each."""

_FRESH_SECONDS: Final = 1.0
"""How long a finding is told again, so that who tries on and on doesn't double the server's connections."""

_NAMES: Final = 5
_NAME_CHARS: Final = 100
"""Of a stranger's certificate, what an error tells at most."""

_EXPIRED: Final = 10
_NOT_YET_VALID: Final = 9
_UNKNOWN_AUTHORITY: Final = (2, 18, 19, 20, 21)
_OTHER_NAME: Final = (62, 64)
"""Of OpenSSL's ``X509_V_ERR_...``."""

_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
"""What a client of HTTP/2 begins with; some servers say nothing before it."""

_HUNG_UP: Final = "the server hung up in the middle of the TLS handshake"
_NO_CONNECTION: Final = "failed to connect to all addresses"
_NO_ANSWER: Final = re.compile(r"to connect to remote host: (?!Connection refused)")
"""Of the last of its addresses, gRPC tells why. Where one was refused, another may have answered."""


class ChannelSecurity:
    """How a client's connection is secured, and why that fails.

    Args:
        target: where the server is.
        tls: as of ``connect``.
        credentials: as of ``connect``.

    Attributes:
        credentials: grpc's own; None is plaintext.

    Raises:
        TypeError: ``tls`` is none, or both are given.
        OSError, ValueError: a file can't be read, or what is in it can't be used.
    """

    def __init__(self, target: str, tls: ClientTLS | bool | None, credentials: grpc.ChannelCredentials | None) -> None:
        if not isinstance(tls, ClientTLS | bool | None):
            raise TypeError(f"tls is True or a ClientTLS, such as ClientTLS(ca='ca.pem'), not {tls!r}")
        if tls and credentials is not None:
            raise TypeError("tls= and credentials= say the same in two ways: give one of them")
        self._tls: Final = ClientTLS() if tls is True else tls or None
        self.credentials: Final = credentials if self._tls is None else client_credentials(self._tls)
        self._target: Final = target
        self._address: Final = None if credentials else _host_and_port(target)
        self._files: Final = None if self._tls is None else self._tls.state()
        self._lock: Final = threading.Lock()
        self._finding: asyncio.Future[str | None] | None = None
        self._found: str | None = None
        self._fresh = 0.0

    def channel(self, options: ChannelOptions | None = None) -> grpc.Channel:
        """A channel for calls that block. It connects when it is used."""
        if self.credentials is None:
            return grpc.insecure_channel(self._target, options)
        return grpc.secure_channel(self._target, self.credentials, options)

    def aio_channel(self, options: ChannelOptions | None = None) -> grpc.aio.Channel:
        """A channel of the running event loop."""
        if self.credentials is None:
            return grpc.aio.insecure_channel(self._target, options)
        return grpc.aio.secure_channel(self._target, self.credentials, options)

    def explain(self, failed: CallError) -> CallError:
        """What a failed call raises. Without a connection it blocks until it knows why, some seconds at most."""
        return self._explained(failed, self._reason()) if self._is_unexplained(failed) else failed

    async def explain_soon(self, failed: CallError) -> CallError:
        """The same, which lets the event loop run."""
        if not self._is_unexplained(failed):
            return failed
        if self._finding is None or self._finding.done():  # one thread, however many calls fail
            self._finding = asyncio.ensure_future(asyncio.to_thread(self._reason))
        return self._explained(failed, await asyncio.shield(self._finding))

    def _is_unexplained(self, failed: CallError) -> bool:
        return (
            failed.code is grpc.StatusCode.UNAVAILABLE
            and self._address is not None
            and failed.message.startswith(_NO_CONNECTION)
            and not _NO_ANSWER.search(failed.message)
        )

    def _reason(self) -> str | None:
        with self._lock:
            if self._address is not None and monotonic() > self._fresh:
                self._found = reason(*self._address, self._tls)
                if self._found is None and self._tls is not None and self._tls.state() != self._files:
                    self._found = "its TLS files have changed since this client was made: connect anew to use them"
                self._fresh = monotonic() + _FRESH_SECONDS
            return self._found

    def _explained(self, failed: CallError, found: str | None) -> CallError:
        if found is None:
            return failed
        explained = CallError(failed.code, f"can't connect to {self._target}: {found}", failed.details)
        for note in (f"gRPC's words: {failed.message}", *getattr(failed, "__notes__", ())):
            explained.add_note(note)
        return explained


def reason(host: str, port: int, tls: ClientTLS | None) -> str | None:
    """Why a server can't be connected to; None where TLS is not why.

    A server that doesn't prove who it is gets neither a client's certificate nor a byte beyond the handshake.
    """
    try:
        if tls is None:
            return _of_plaintext(host, port)
        return _of_tls(host, port, tls)
    except (OSError, ValueError):  # ssl's errors are OSErrors; there may be no server by now
        return None


def _of_plaintext(host: str, port: int) -> str | None:
    with _handshake(_unverified(), host, port):
        return "the server speaks TLS, this client doesn't: it needs tls= (--tls)"


def _of_tls(host: str, port: int, tls: ClientTLS) -> str | None:
    context = _context()
    if tls.ca is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(tls.ca)
    if tls.certificate is not None and tls.key is not None:
        context.load_cert_chain(tls.certificate, tls.key, password="")
    try:
        with _handshake(context, host, port) as connection:
            return None if _goes_on(connection) else _of_client(tls)
    except ssl.SSLCertVerificationError as error:
        return _of_server(host, port, error, tls)
    except ConnectionRefusedError:
        return None
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError):  # the second in early 3.11
        return _HUNG_UP
    except ssl.SSLError as error:
        if error.reason in _NO_TLS:
            return "this client speaks TLS, the server doesn't"
        if error.reason and "ALERT" in error.reason:
            return f"the server refuses the TLS handshake ({error.reason.replace('_', ' ').lower()})"
        return None
    except OSError as error:
        return _HUNG_UP if error.errno == errno.ENOTCONN else None


def _goes_on(connection: ssl.SSLSocket) -> bool:
    """Whether a server takes its client for one of its own: it hears of the client's certificate last."""
    try:
        connection.sendall(_PREFACE)
        return bool(connection.recv(1))
    except TimeoutError:
        return True  # it has nothing to say
    except OSError:
        return False


def _of_client(tls: ClientTLS) -> str:
    """Why a server hangs up that has just proved who it is. gRPC's doesn't say."""
    if tls.certificate is None:
        return "the server hung up once it had proved who it is: it seems to want a client certificate"
    return (
        f"the server refuses the client certificate in {tls.certificate}: "
        "its authority is none that the server trusts, or it has expired"
    )


def _of_server(host: str, port: int, error: ssl.SSLCertVerificationError, tls: ClientTLS) -> str:
    """What is wrong with a server's certificate."""
    held = _certificate(host, port)
    code, now = error.verify_code, datetime.now(UTC)
    if code == _EXPIRED:
        if held and date_of(held, "notAfter") < now:
            return f"the server's certificate expired on {date_of(held, 'notAfter'):%Y-%m-%d}"
        return "the certificate of an authority above the server's expired"
    if code == _NOT_YET_VALID and held:
        return f"the server's certificate is not valid before {date_of(held, 'notBefore'):%Y-%m-%d %H:%M} UTC"
    if code in _OTHER_NAME:
        names = [_shown(name) for _, name in held.get("subjectAltName", ())]
        told = ", ".join(names[:_NAMES]) + (" and others" if len(names) > _NAMES else "")
        return f"the server's certificate is for {told or 'no name'}, not {host}"
    if code in _UNKNOWN_AUTHORITY:
        where = "what this system trusts" if tls.ca is None else tls.ca
        return f"the server's certificate was issued by an unknown authority{_issuer(held)}, which is not in {where}"
    return f"the server's certificate is refused: {error.verify_message}"


def _certificate(host: str, port: int) -> Mapping[str, Any]:
    """What is in a server's certificate, whoever issued it; nothing where it can't be told."""
    try:
        with _handshake(_unverified(), host, port) as connection:
            data = connection.getpeercert(binary_form=True)
        if data is None:
            return {}
        context = _context()
        context.check_hostname = False
        trusting(context, ssl.DER_cert_to_PEM_cert(data))
        with _handshake(context, host, port) as connection:
            return connection.getpeercert() or {}
    except OSError:
        return {}


def _issuer(certificate: Mapping[str, Any]) -> str:
    named = {key: value for part in certificate.get("issuer", ()) for key, value in part}
    for key in ("commonName", "organizationalUnitName", "organizationName"):
        if key in named:
            return f" ({_shown(named[key])})"
    return ""


def _shown(text: str) -> str:
    """Text of a stranger, for a line of a log or a terminal."""
    return re.sub(r"[^\x20-\x7e]", "?", text[:_NAME_CHARS])


@contextmanager
def _handshake(context: ssl.SSLContext, host: str, port: int) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection((host, port), _STEP_SECONDS) as connection,
        context.wrap_socket(connection, server_hostname=host) as secured,
    ):
        yield secured


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])  # without which gRPC's servers hang up
    return context


def _unverified() -> ssl.SSLContext:
    context = _context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _host_and_port(target: str) -> tuple[str, int] | None:
    """Where a target is, if that is one host and its port."""
    found = re.fullmatch(r"(?:(?:dns:|ipv[46]:)(?://[^/]*/)?)?(?:\[([^\]]+)\]|([^:/,\[\]]+)):(\d+)", target)
    return found and (found[1] or found[2], int(found[3]))

"""TLS: certificates and keys in PEM files, what is wrong with them, and a server that follows when they change.

gRPC uses what is in the files; Python's ``ssl`` finds what is wrong with it, since gRPC doesn't say.
"""

import logging
import os
import re
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Final, NamedTuple, cast

import grpc

logger = logging.getLogger("ephaptic_grpc")

File = str | os.PathLike[str]

_AGAIN_SECONDS: Final = 10.0
"""How long new files that can't be used are left alone, unless they change: a certificate may be valid by then."""

_NO_CHECK_TIME: Final = 0x200000
"""OpenSSL's ``X509_V_FLAG_NO_CHECK_TIME``, for which Python has no name."""

_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----[\sA-Za-z0-9+/=]+-----END CERTIFICATE-----")
_OTHER_KEY: Final = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
_WRONG_PURPOSE: Final = 26  # X509_V_ERR_INVALID_PURPOSE


@dataclass(frozen=True, slots=True)
class TLS:
    """How a server proves who it is, and what its callers must prove: files in PEM form.

    They are read when the server starts, and again when they have changed and somebody connects: streams go on, new
    connections get the new certificate. Where the new files can't be used (half written, a key of another
    certificate), the old certificate stays, and the log says why.

    Attributes:
        certificate: the server's certificate, followed by those between it and its authority.
        key: the certificate's private key, not encrypted.
        client_ca: the certificates of authorities. Only callers with a certificate that one of them issued can connect
            (mutual TLS); ``current_call().peer_identity`` says who they are. None asks callers for nothing.
    """

    certificate: File
    key: File
    client_ca: File | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTLS:
    """How a client knows the server, and proves who it is itself: files in PEM form.

    They are read when the client is made, and not again: gRPC can't change them. A client that reconnects after a file
    has changed still uses the old one; make a new client for the new one.

    Attributes:
        ca: the certificates of the authorities that are trusted; None for those that the system trusts.
        certificate: the client's own certificate, followed by those between it and its authority, for servers that ask
            for one.
        key: its private key, not encrypted.

    Raises:
        ValueError: a certificate without its key, or the other way round.
    """

    ca: File | None = None
    certificate: File | None = None
    key: File | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a client's certificate and its key go together: give both, or neither")

    def state(self) -> object:
        """What is different once a file is."""
        return _state(self.ca, self.certificate, self.key)


def server_credentials(tls: TLS) -> grpc.ServerCredentials:
    """Credentials that are made of the files, and follow their changes.

    Raises:
        OSError: a file can't be read.
        ValueError: what is in it can't be used; the message says why.
    """
    files = _Files(tls)
    changed = cast("Callable[[], grpc.ServerCertificateConfiguration]", files.changed)  # stubs don't know of None
    return grpc.dynamic_ssl_server_credentials(
        files.configuration, changed, require_client_authentication=tls.client_ca is not None
    )


def client_credentials(tls: ClientTLS) -> grpc.ChannelCredentials:
    """Credentials that are made of the files.

    Raises:
        OSError: a file can't be read.
        ValueError: what is in it can't be used; the message says why.
    """
    roots = system_roots() if tls.ca is None else read_certificates(tls.ca)
    if tls.certificate is None or tls.key is None:
        return grpc.ssl_channel_credentials(roots)
    pair = read_pair(tls.certificate, tls.key, of_server=False)
    return grpc.ssl_channel_credentials(roots, pair.key, pair.certificate)


def system_roots() -> bytes | None:
    """The certificates of the authorities that the system trusts; None where it doesn't say (gRPC has its own list).

    As everywhere, ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` name others. gRPC itself never asks the system in Python.
    """
    paths = ssl.get_default_verify_paths()
    if paths.cafile is not None:
        return Path(paths.cafile).read_bytes()
    if paths.capath is not None:  # each by the hash of its name
        return b"\n".join(path.read_bytes() for path in sorted(Path(paths.capath).glob("*.[0-9]"))) or None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()  # of Windows
    return "".join(map(ssl.DER_cert_to_PEM_cert, context.get_ca_certs(binary_form=True))).encode() or None


class Pair(NamedTuple):
    """A certificate with its chain and its key, as PEM, and when it expires."""

    certificate: bytes
    key: bytes
    expires: datetime


def read_pair(certificate: File, key: File, *, of_server: bool) -> Pair:
    """A certificate and its key, which are right.

    Raises:
        OSError: a file can't be read.
        ValueError: what is in it can't be used; the message says why.
    """
    chain, private = read_certificates(certificate), _read(key)
    if b"ENCRYPTED" in private:
        raise ValueError(f"the key in {key} is encrypted: 'openssl pkey -in {key} -out FILE' writes it as it is needed")
    try:
        held = _decoded(certificate, key, chain, of_server=of_server)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == _WRONG_PURPOSE:
            side = "servers" if of_server else "clients"
            raise ValueError(f"the certificate in {certificate} is not one for {side}") from None
        raise ValueError(f"the certificate in {certificate} can't be used: {error.verify_message}") from None
    except ssl.SSLError as error:
        if error.reason in _OTHER_KEY:
            raise ValueError(f"the key in {key} is not that of the certificate in {certificate}") from None
        raise ValueError(f"{key} holds no private key in PEM form") from None
    now, begins, expires = datetime.now(UTC), date_of(held, "notBefore"), date_of(held, "notAfter")
    if expires < now:
        raise ValueError(f"the certificate expired on {expires:%Y-%m-%d} ({certificate})")
    if begins > now:
        raise ValueError(f"the certificate is not valid before {begins:%Y-%m-%d %H:%M} UTC ({certificate})")
    return Pair(chain, private, expires)


def read_certificates(file: File) -> bytes:
    """The certificates in a file, one at least, as PEM.

    Raises:
        OSError: it can't be read.
        ValueError: it holds none.
    """
    data = _read(file)
    found = _CERTIFICATE.findall(data)
    if not found:
        what = "a key, but no certificate" if b"PRIVATE KEY-----" in data else "no certificate"
        raise ValueError(f"{file} holds {what} in PEM form")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=b"\n".join(found).decode())
    except ssl.SSLError:
        raise ValueError(f"{file} holds a certificate that is damaged") from None
    return b"\n".join((*found, b""))


def date_of(certificate: Mapping[str, Any], which: str) -> datetime:
    """When a certificate, as ``SSLSocket.getpeercert`` gives it, begins to be valid or ends."""
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate[which]), UTC)


def trusting(context: ssl.SSLContext, certificate: str) -> None:
    """Let a context trust one certificate itself, whatever its dates: so that ``ssl`` tells what is in it."""
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(_NO_CHECK_TIME)
    context.load_verify_locations(cadata=certificate)


def _read(file: File) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise OSError(error.errno, f"can't read {os.fspath(file)}: {error.strerror}") from None


def _decoded(certificate: File, key: File, chain: bytes, *, of_server: bool) -> Mapping[str, Any]:
    """What is in the first certificate of a chain: shown by one side of a handshake, in memory, to the other."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    for context in (server, client):
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # how long a key has to be, gRPC decides
        context.load_cert_chain(certificate, key, password="")  # which isn't asked for on a terminal
    reader = client if of_server else server
    reader.verify_mode = ssl.CERT_REQUIRED
    trusting(reader, chain.partition(b"-----END")[0].decode() + "-----END CERTIFICATE-----")
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = {server: server.wrap_bio(up, down, server_side=True), client: client.wrap_bio(down, up)}
    shaking = [sides[client], sides[server]]
    while shaking:
        side = shaking.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            shaking.append(side)
    return sides[reader].getpeercert() or {}


class _Files:
    """The files of a server's TLS.

    Attributes:
        configuration: what was in them when the server started.
    """

    def __init__(self, tls: TLS) -> None:
        self._tls: Final = tls
        self._lock: Final = threading.Lock()
        self._used = self._state()
        self._refused: object = None
        self._again = 0.0
        self.configuration, expires = self._load(self._used)
        logger.info("the TLS certificate in use is valid until %s (%s)", f"{expires:%Y-%m-%d}", tls.certificate)

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """What is in them now, if that is new and right; None otherwise. gRPC asks at each handshake, in threads."""
        with self._lock:
            state = self._state()
            if state == self._used or (state == self._refused and monotonic() < self._again):
                return None
            try:
                configuration, expires = self._load(state)
            except (OSError, ValueError) as error:
                if state != self._refused:
                    reason = error.strerror if isinstance(error, OSError) else error
                    logger.error("the TLS certificate in use stays: %s", reason)
                self._refused, self._again = state, monotonic() + _AGAIN_SECONDS
                return None
            self._used, self._refused = state, None
            logger.info(
                "a new TLS certificate is in use, valid until %s (%s)", f"{expires:%Y-%m-%d}", self._tls.certificate
            )
            return configuration

    def _load(self, state: object) -> tuple[grpc.ServerCertificateConfiguration, datetime]:
        tls = self._tls
        pair = read_pair(tls.certificate, tls.key, of_server=True)
        roots = None if tls.client_ca is None else read_certificates(tls.client_ca)
        if self._state() != state:
            raise ValueError(f"{tls.certificate} was written while it was read")
        return grpc.ssl_server_certificate_configuration([(pair.key, pair.certificate)], roots), pair.expires

    def _state(self) -> object:
        return _state(self._tls.certificate, self._tls.key, self._tls.client_ca)


def _state(*files: File | None) -> object:
    """What is different once one of these files is. It is asked for at each handshake."""
    return [_stat(file) for file in files if file is not None]


def _stat(file: File) -> tuple[int, int, int] | None:
    try:
        found = os.stat(file)  # noqa: PTH116  a Path would only take time
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino

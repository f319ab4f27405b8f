"""TLS in an Envoy configuration: towards callers, and towards the servers behind it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ephaptic_grpc.codegen.envoy_text import fill, is_ip, quoted
from ephaptic_grpc.tls import TLS, File

SYSTEM_ROOTS: Final = "/etc/ssl/certs/ca-certificates.crt"
"""Of Debian, Ubuntu, Alpine, and of Envoy's own images. Envoy itself knows of no place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamTLS:
    """How the servers prove to Envoy who they are, and Envoy to them.

    Attributes:
        ca: the file of the authorities that may have issued their certificates, as PEM.
        identity: the files of Envoy's own certificate (chain) and its key, as PEM, for servers that ask for one: to
            them every caller is Envoy. None where they don't.
        name: the name that their certificates are for; None for the hosts that Envoy connects to.
    """

    ca: File = SYSTEM_ROOTS
    identity: tuple[File, File] | None = None
    name: str | None = None

    def text(self, hosts: Sequence[str]) -> str:
        """The part of a cluster of servers at these hosts."""
        expected = hosts if self.name is None else [self.name]
        return fill(
            """
            transport_socket:
              name: envoy.transport_sockets.tls
              typed_config:
                "@type": $types.transport_sockets.tls.v3.UpstreamTlsContext
                $sni
                common_tls_context:
                  alpn_protocols: [h2]
                  tls_params: {tls_minimum_protocol_version: TLSv1_2}
                  $identity
                  # Nobody else's certificate will do, whoever issued it.
                  validation_context:
                    trusted_ca: {filename: $ca}
                    match_typed_subject_alt_names:
                    $names
            """,
            sni=_sni(expected),
            identity="" if self.identity is None else _certificates(*self.identity),
            ca=quoted(os.fspath(self.ca)),
            names="\n".join(map(_name, expected)),
        )


def downstream_tls(tls: TLS) -> str:
    """The part of a listener."""
    callers = ""
    if tls.client_ca is not None:
        callers = f"validation_context: {{trusted_ca: {{filename: {quoted(os.fspath(tls.client_ca))}}}}}"
    return fill(
        """
        transport_socket:
          name: envoy.transport_sockets.tls
          typed_config:
            "@type": $types.transport_sockets.tls.v3.DownstreamTlsContext
            $required
            common_tls_context:
              alpn_protocols: [h2, http/1.1]
              tls_params: {tls_minimum_protocol_version: TLSv1_2}
              $certificates
              $callers
        """,
        required="require_client_certificate: true" if callers else "",
        certificates=_certificates(tls.certificate, tls.key),
        callers=callers,
    )


def _certificates(certificate: File, key: File) -> str:
    return fill(
        """
        tls_certificates:
        - certificate_chain: {filename: $certificate}
          private_key: {filename: $key}
        """,
        certificate=quoted(os.fspath(certificate)),
        key=quoted(os.fspath(key)),
    )


def _sni(names: Sequence[str]) -> str:
    """What says for which name a connection is; there is none for addresses."""
    hosts = [name for name in names if not is_ip(name)]
    if len(hosts) > 1:
        return "auto_host_sni: true"
    return f"sni: {quoted(hosts[0])}" if hosts else ""


def _name(name: str) -> str:
    kind = "IP_ADDRESS" if is_ip(name) else "DNS"
    return f"- {{san_type: {kind}, matcher: {{exact: {quoted(name)}}}}}"

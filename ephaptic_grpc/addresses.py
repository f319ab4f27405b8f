"""Where a server listens: a host and a port."""

import errno
import ipaddress
import os
import socket


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_port(host: str, port: int) -> str:
    """``127.0.0.1:50051``, ``[::1]:50051``"""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_address(host: str, port: int) -> None:
    """Raise OSError where an address can't be listened on: grpc itself doesn't say why, and logs more than it says."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            if os.name == "posix":  # as grpc does; elsewhere it means that a port can be taken twice
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        reason = "another program uses this port" if error.errno == errno.EADDRINUSE else error.strerror
        raise OSError(error.errno, f"can't listen on {host_port(host, port)}: {reason}") from None

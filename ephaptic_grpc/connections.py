"""What gRPC is told of connections: when a silent peer is given up, what is called again. And what a fork may do."""

import json
import os
from collections.abc import Iterable
from typing import Any

from ephaptic_grpc import limits

ChannelOptions = list[tuple[str, Any]]
"""What grpc takes as ``options``, of a server and of a channel."""

_used_by: int | None = None
"""The process that uses gRPC's asyncio side, which has threads and sockets of its own, once for a whole process."""


def use_asyncio() -> None:
    """Say that this process uses gRPC's asyncio side from now on.

    Raises:
        RuntimeError: as ``check_process``.
    """
    global _used_by
    check_process()
    _used_by = os.getpid()


def check_process() -> None:
    """Refuse to go on in a fork of a process that used gRPC's asyncio side: calls would hang there, and servers crash.

    Raises:
        RuntimeError: this is one.
    """
    if _used_by not in (None, os.getpid()):
        raise RuntimeError(
            "this process was forked from one that used gRPC already, and can't: start it by multiprocessing's "
            "'spawn', or fork before the first call"
        )


def server_options() -> ChannelOptions:
    """How a server keeps its connections. Clients and proxies may ask twice as often as they do."""
    return [
        *_keepalive(),
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(min(limits.PING_SECONDS, limits.KEEPALIVE_SECONDS) / 2)),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def client_options(idempotent: Iterable[str] = ()) -> ChannelOptions:
    """How a client keeps its connection.

    Args:
        idempotent: the paths of functions that may run twice. Their calls are made again where they fail with
            UNAVAILABLE, or a server's CANCELLED, before anything has come back; those of others only where gRPC knows
            that none has begun to run.
    """
    first, most = limits.RECONNECT_SECONDS
    options: ChannelOptions = [
        *_keepalive(),
        ("grpc.initial_reconnect_backoff_ms", _ms(first)),
        ("grpc.max_reconnect_backoff_ms", _ms(most)),
    ]
    methods = [path[1:].split("/") for path in idempotent]
    if methods:
        first, most = limits.RETRY_SECONDS
        policy = {
            "maxAttempts": limits.RETRY_ATTEMPTS,
            "initialBackoff": f"{first}s",
            "maxBackoff": f"{most}s",
            "backoffMultiplier": 2,
            # CANCELLED: what gRPC's server says of calls that have come, and that it has not begun when it stops.
            "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
        }
        names = [{"service": service, "method": method} for service, method in methods]
        config = {"methodConfig": [{"name": names, "retryPolicy": policy}]}
        options.append(("grpc.service_config", json.dumps(config)))
        # gRPC makes no call again of which it has kept less than all, and keeps 256 KiB by default.
        options.append(("grpc.per_rpc_retry_buffer_size", 2 * limits.JSON_BYTES))
    return options


def _keepalive() -> ChannelOptions:
    return [
        ("grpc.keepalive_time_ms", _ms(limits.KEEPALIVE_SECONDS)),
        ("grpc.keepalive_timeout_ms", _ms(limits.KEEPALIVE_TIMEOUT_SECONDS)),
        ("grpc.http2.ping_timeout_ms", _ms(limits.KEEPALIVE_TIMEOUT_SECONDS)),  # which newer releases of grpcio go by
        ("grpc.http2.max_pings_without_data", 0),  # else a quiet stream is asked twice, and then no more
    ]


def _ms(seconds: float) -> int:
    return int(seconds * 1000)

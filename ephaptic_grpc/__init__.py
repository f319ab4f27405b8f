"""Call Python functions, and stream from Python generators, over gRPC: write the function, nothing else."""

from ephaptic_grpc.call import Call, PeerIdentity, current_call
from ephaptic_grpc.client import Client, connect
from ephaptic_grpc.errors import CallError, ExposeError, ServiceError
from ephaptic_grpc.limits import Limits
from ephaptic_grpc.server import Server
from ephaptic_grpc.service import Service, default_service, expose
from ephaptic_grpc.streams import Stream
from ephaptic_grpc.sync_client import SyncClient, SyncStream, connect_sync
from ephaptic_grpc.tls import TLS, ClientTLS

__all__ = [
    "TLS",
    "Call",
    "CallError",
    "Client",
    "ClientTLS",
    "ExposeError",
    "Limits",
    "PeerIdentity",
    "Server",
    "Service",
    "ServiceError",
    "Stream",
    "SyncClient",
    "SyncStream",
    "connect",
    "connect_sync",
    "current_call",
    "default_service",
    "expose",
]

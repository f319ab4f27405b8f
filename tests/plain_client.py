"""A client that doesn't ask for batches, as stubs of other languages don't."""

from collections.abc import Callable
from typing import Any

import grpc

from ephaptic_grpc import Client, Stream
from ephaptic_grpc.remote import Method


class PlainClient(Client):
    def _callable(self, method: Method) -> Callable[..., Any]:
        if not method.streams:
            return super()._callable(method)
        connection, timeout = self._connection, self._options.timeout
        metadata = grpc.aio.Metadata(*self._options.metadata)

        def stream(*args: Any, **kwargs: Any) -> Stream[Any]:
            message = method.request(args, kwargs)
            call = connection.stream(method.path, message, timeout, metadata)
            return connection.ending(Stream(call, method, connection.security))

        return stream


def plain(client: Client) -> PlainClient:
    """The same client, over the same connection, with a message for each item."""
    return PlainClient(client._connection, client._functions, client._options)

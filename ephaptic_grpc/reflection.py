"""The standard reflection service: a server tells its contracts, and whoever asks it learns them."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToJson, Parse
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import aio  # pyright: ignore[reportAttributeAccessIssue]  a variable

from ephaptic_grpc import limits
from ephaptic_grpc.contract import Contract
from ephaptic_grpc.descriptors import descriptor_set, read_file
from ephaptic_grpc.errors import CallError, status_of
from ephaptic_grpc.handshake import ChannelSecurity
from ephaptic_grpc.service import Service
from ephaptic_grpc.tls import ClientTLS

SERVICES: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
"""The same messages under two names: what is current, and what everybody knows."""

_METHOD: Final = "ServerReflectionInfo"
_HEALTH: Final = "grpc.health.v1.Health"

_Request = reflection_pb2.ServerReflectionRequest
_Response = reflection_pb2.ServerReflectionResponse


class Reflection:
    """Reflection of what a server serves. The contracts are made when the first caller asks for them."""

    def __init__(self, services: Sequence[Service]) -> None:
        self._services = services
        self._servicer: asyncio.Future[Any] | None = None
        self._streams = 0

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """The service under both of its names, for grpc.aio."""
        # No deserialiser: what it raises, grpc.aio would tell the caller.
        method: Any = grpc.stream_stream_rpc_method_handler(self._answer, None, _Response.SerializeToString)
        return [grpc.method_handlers_generic_handler(service, {_METHOD: method}) for service in SERVICES]

    async def _answer(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[_Response]:
        if self._streams >= limits.STANDARD_STREAMS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self._streams} streams of reflection are open")
        self._streams += 1
        try:
            servicer = await self._made(context)
            async for response in servicer.ServerReflectionInfo(_requests(messages, context), context):
                yield response
        finally:
            self._streams -= 1

    async def _made(self, context: Any) -> Any:
        if self._servicer is None:
            self._servicer = asyncio.ensure_future(asyncio.to_thread(self._make))
        try:
            return await asyncio.shield(self._servicer)
        except Exception as error:
            status = status_of(error, SERVICES[0])
            await context.abort(status.code, status.message)
            raise

    def _make(self) -> Any:
        pool = DescriptorPool()
        for file in descriptor_set(map(Contract.of, self._services)).file:
            pool.Add(file)
        for file in (_file(health_pb2), _file(reflection_pb2), _current(_file(reflection_pb2))):
            pool.Add(file)
        names = [*SERVICES, _HEALTH, *(service.name for service in self._services)]
        return aio.ReflectionServicer(names, _MethodsToo(pool))


class _MethodsToo:
    """A descriptor pool that knows the names of methods, too, as ``chat.v1.ChatService.AiResponse``."""

    def __init__(self, pool: DescriptorPool) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802  as the pool calls it
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            return self._pool.FindServiceByName(service).methods_by_name[method].containing_service.file


async def _requests(messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[_Request]:
    async for message in messages:
        try:
            request = _Request.FromString(message)
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the message is not a ServerReflectionRequest")
            raise
        yield request


def _file(module: Any) -> FileDescriptorProto:
    file = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)
    return file


def _current(file: FileDescriptorProto) -> FileDescriptorProto:
    """The file of reflection under its current name, which grpcio-reflection doesn't have."""
    current = MessageToJson(file).replace("v1alpha", "v1")
    return Parse(current, FileDescriptorProto())


def contracts_of(target: str, timeout: float, tls: ClientTLS | bool = False) -> list[Contract]:
    """The contracts that a running server tells.

    Args:
        target: where it is, such as ``localhost:50051``.
        timeout: seconds that it has.
        tls: as of ``connect``.

    Raises:
        CallError: it can't be reached, or has no reflection (UNIMPLEMENTED).
        ValueError: what it tells makes no sense, or a file of ``tls`` can't be used.
        OSError: a file of ``tls`` can't be read.
    """
    security = ChannelSecurity(target, tls, None)
    with security.channel() as channel:
        try:
            return _ask(channel, security, SERVICES[0], timeout)
        except CallError as error:
            if error.code is not grpc.StatusCode.UNIMPLEMENTED:
                raise
        return _ask(channel, security, SERVICES[1], timeout)


def _ask(channel: grpc.Channel, security: ChannelSecurity, reflection: str, timeout: float) -> list[Contract]:
    call = channel.stream_stream(f"/{reflection}/{_METHOD}", _Request.SerializeToString, _Response.FromString)

    def ask(requests: Iterable[_Request]) -> list[_Response]:
        try:
            return list(call(iter(requests), timeout=timeout, wait_for_ready=False))
        except grpc.RpcError as error:
            raise security.explain(CallError.of(error)) from None

    listed = ask([_Request(list_services="")])
    names = [service.name for answer in listed for service in answer.list_services_response.service]
    answers = ask(_Request(file_containing_symbol=name) for name in names if name not in (*SERVICES, _HEALTH))
    files: dict[str, FileDescriptorProto] = {}
    for answer in answers:
        for data in answer.file_descriptor_response.file_descriptor_proto:
            try:
                file = FileDescriptorProto.FromString(data)
            except DecodeError:
                raise ValueError("a file that it tells is no descriptor") from None
            files[file.name] = file
    return [contract for file in files.values() for contract in read_file(file)]

"""Contracts as protobuf descriptors, whose options hold the schemas: written, and read from whoever has them."""

import inspect
import keyword
from collections.abc import Iterable, Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError
from pydantic_core import from_json

from ephaptic_grpc.arguments import go_by_name
from ephaptic_grpc.contract import Contract, Function, Kind, Parameter
from ephaptic_grpc.errors import ExposeError
from ephaptic_grpc.limits import LARGEST_JSON_BYTES
from ephaptic_grpc.names import check_function_name, check_service_name, proto_file, rpc_name
from ephaptic_grpc.schemas import Schema, compact, malformed, reference, references
from ephaptic_grpc.v1 import contract_pb2, payload_pb2
from ephaptic_grpc.vocabulary import UNIONS

PAYLOAD: Final = "ephaptic_grpc.v1.Payload"

_IDEMPOTENT: Final = descriptor_pb2.MethodOptions.IDEMPOTENT
_NO_SIDE_EFFECTS: Final = descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS

# Typed by the generated module as something that the stubs of protobuf don't take.
DEFINITIONS_OPTION: Final[Any] = contract_pb2.definitions
FUNCTION_OPTION: Final[Any] = contract_pb2.function


def file_of(contract: Contract) -> descriptor_pb2.FileDescriptorProto:
    """The .proto file of the service, as protoc reads it."""
    package, _, own = contract.service.rpartition(".")
    file = descriptor_pb2.FileDescriptorProto(
        name=proto_file(contract.service),
        package=package,
        dependency=[contract_pb2.DESCRIPTOR.name, payload_pb2.DESCRIPTOR.name],
        syntax="proto3",
    )
    service = file.service.add(name=own)
    for name, schema in contract.definitions.items():
        service.options.Extensions[DEFINITIONS_OPTION].add(name=name, schema=compact(schema))
    for function in contract.functions:
        method = service.method.add(name=rpc_name(function.name), input_type=f".{PAYLOAD}", output_type=f".{PAYLOAD}")
        if function.streams:
            method.server_streaming = True
        if function.idempotent:
            method.options.idempotency_level = _IDEMPOTENT
        method.options.Extensions[FUNCTION_OPTION].CopyFrom(_message(function))
    return file


def descriptor_set(contracts: Iterable[Contract]) -> descriptor_pb2.FileDescriptorSet:
    """The files of services, after those that they import: complete, as ``protoc --include_imports`` writes them.

    Raises:
        ValueError: two services would be in the same file.
    """
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    for descriptor in (descriptor_pb2.DESCRIPTOR, contract_pb2.DESCRIPTOR, payload_pb2.DESCRIPTOR):
        files[descriptor.name] = _imported(descriptor)
    for contract in contracts:
        file = file_of(contract)
        if file.name in files:
            raise ValueError(f"{contract.service} and another service would both be in {file.name}: rename one of them")
        files[file.name] = file
    return descriptor_pb2.FileDescriptorSet(file=files.values())


def _imported(descriptor: FileDescriptor) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto()
    descriptor.CopyToProto(file)
    for fields in (file.extension, *(message.field for message in file.message_type)):
        for field in fields:  # protoc writes these, and leaves them out of what it compiles
            head, *rest = field.name.split("_")
            field.json_name = head + "".join(part.capitalize() for part in rest)
    return file


def read_descriptor_set(data: bytes) -> list[Contract]:
    """The contracts in a serialised ``google.protobuf.FileDescriptorSet``, in its order.

    Raises:
        ValueError: it is no descriptor set, or a contract in it makes no sense; the message says where.
    """
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(data).file
    except DecodeError:
        raise ValueError("it is not a descriptor set (google.protobuf.FileDescriptorSet)") from None
    return [contract for file in files for contract in read_file(file)]


def read_file(file: descriptor_pb2.FileDescriptorProto) -> list[Contract]:
    """The contracts in one file; none where its services are not ours.

    Raises:
        ValueError: a contract makes no sense; the message says where.
    """
    return [
        _read(f"{file.package}.{service.name}", service)
        for service in file.service
        if all(method.options.HasExtension(FUNCTION_OPTION) for method in service.method)
    ]


def _message(function: Function) -> contract_pb2.Function:
    return contract_pb2.Function(
        name=function.name,
        doc=function.doc.encode("utf-8", "replace").decode(),
        parameters=[
            contract_pb2.Parameter(
                name=parameter.name,
                kind=contract_pb2.ParameterKind.Name(parameter.kind + 1),
                required=parameter.required,
                default=parameter.default,
                schema=compact(parameter.schema),
                alias=parameter.alias,
            )
            for parameter in function.parameters
        ],
        value=compact(function.value),
        reply_bytes=function.reply_bytes,
    )


def _read(name: str, service: descriptor_pb2.ServiceDescriptorProto) -> Contract:
    check_service_name(name)
    definitions = {
        definition.name: _schema(definition.schema, f"{name}, type {definition.name!r}")
        for definition in service.options.Extensions[DEFINITIONS_OPTION]
    }
    if len({method.name for method in service.method}) < len(service.method):
        raise ValueError(f"{name}: it has two functions of the same name")
    functions = []
    for method in service.method:
        message = method.options.Extensions[FUNCTION_OPTION]
        where = f"{name}/{method.name}"
        try:
            check_function_name(message.name)
        except ValueError as error:
            raise ValueError(f"{where}: {message.name!r} can't be a function: {error}") from None
        if rpc_name(message.name) != method.name:
            raise ValueError(f"{where}: it can't be the RPC of {message.name!r}")
        parameters = tuple(_read_parameter(parameter, where) for parameter in message.parameters)
        _check_signature(parameters, where)
        value = _schema(message.value, f"{where}, its value")
        idempotent = method.options.idempotency_level in (_IDEMPOTENT, _NO_SIDE_EFFECTS)
        if not 0 <= message.reply_bytes <= LARGEST_JSON_BYTES:
            raise ValueError(f"{where}: its reply_bytes can't be {message.reply_bytes}")
        functions.append(
            Function(
                message.name,
                message.doc,
                method.server_streaming,
                parameters,
                value,
                idempotent,
                message.reply_bytes,
            )
        )
    contract = Contract(name, tuple(functions), definitions)
    _check_references(contract)
    return contract


def _read_parameter(message: contract_pb2.Parameter, where: str) -> Parameter:
    where = f"{where}, parameter {message.name!r}"
    if not message.name.isidentifier() or keyword.iskeyword(message.name):
        raise ValueError(f"{where}: a parameter's name is an identifier of Python")
    if not 0 < message.kind <= len(Kind):
        raise ValueError(f"{where}: its kind ({message.kind}) is none that this release knows")
    default = None
    if message.HasField("default"):
        default = compact(_json(message.default, f"{where}, its default"))
    schema = _schema(message.schema, where)
    return Parameter(message.name, Kind(message.kind - 1), message.required, default, schema, message.alias)


def _check_signature(parameters: Sequence[Parameter], where: str) -> None:
    given = [inspect.Parameter(one.name, inspect._ParameterKind(one.kind)) for one in parameters]
    kinds = [one.kind for one in parameters]
    try:
        inspect.Signature(given)
        if kinds.count(Kind.VAR_POSITIONAL) > 1 or kinds.count(Kind.VAR_KEYWORD) > 1:
            raise ValueError("two parameters take the same rest")
        go_by_name(given)
    except (ValueError, ExposeError) as error:
        raise ValueError(f"{where}: {error}") from None


def _check_references(contract: Contract) -> None:
    schemas = [
        (f"{contract.service}/{rpc_name(function.name)}", schema)
        for function in contract.functions
        for schema in (*(parameter.schema for parameter in function.parameters), function.value)
    ]
    schemas += ((f"{contract.service}, type {name!r}", schema) for name, schema in contract.definitions.items())
    for where, schema in schemas:
        for name in references(schema):
            if name not in contract.definitions:
                raise ValueError(f"{where}: it refers to {name!r}, which is not defined")
    try:
        TopologicalSorter({name: _parts(schema) for name, schema in contract.definitions.items()}).prepare()
    except CycleError as error:
        raise ValueError(f"{contract.service}: the type {error.args[1][0]!r} is made of nothing but itself") from None


def _parts(schema: Any) -> Iterator[str]:
    """The names of the definitions that describe the same value as a schema does, and not one inside it."""
    if isinstance(schema, dict):
        name = reference(schema)
        if name is not None:
            yield name
        for key in (*UNIONS, "allOf"):
            for part in schema.get(key, ()):
                yield from _parts(part)


def _schema(text: str, where: str) -> Schema:
    schema = _json(text, where)
    if not isinstance(schema, dict):
        raise ValueError(f"{where}: it is not a JSON Schema")
    if wrong := malformed(schema):
        raise ValueError(f"{where}: it is not a JSON Schema: its {wrong[0]!r} makes no sense")
    return schema


def _json(text: str, where: str) -> Any:
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise ValueError(f"{where}: bad JSON: {error}") from None

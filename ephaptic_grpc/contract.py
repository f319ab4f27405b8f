"""The contract of a service: its functions, what they take and give as JSON Schemas, and nothing of the code behind.

It travels as a protobuf descriptor whose options hold the schemas (``protos/ephaptic_grpc/v1/contract.proto``), so that
whoever has the descriptor, from a file or from a running server, can generate a client.
"""

import hashlib
import json
import keyword
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Final, Self
from weakref import WeakKeyDictionary

from ephaptic_grpc.arguments import unpacked, wire_name
from ephaptic_grpc.errors import ExposeError
from ephaptic_grpc.names import rpc_path
from ephaptic_grpc.procedure import Procedure
from ephaptic_grpc.schemas import Schema, Way, alias_names, canonical, compact, json_schemas, reached
from ephaptic_grpc.service import Service
from ephaptic_grpc.values import split_definitions, with_definitions
from ephaptic_grpc.vocabulary import ALIASES

_FINGERPRINT_BYTES: Final = 8
_MASK: Final = "**********"
"""What Pydantic shows of a secret."""


class Kind(IntEnum):
    """How a parameter can be given: the kinds of ``inspect.Parameter``, with their numbers."""

    POSITIONAL_ONLY = 0
    POSITIONAL_OR_KEYWORD = 1
    VAR_POSITIONAL = 2
    KEYWORD_ONLY = 3
    VAR_KEYWORD = 4


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a function.

    Attributes:
        name: in Python.
        kind: how it can be given.
        required: whether a call without it is refused.
        default: the JSON of its default; None where there is none, or none that can be told.
        schema: the JSON Schema of its value; of each value where it takes the rest.
        alias: its key in a JSON object of arguments, where that isn't its name, else empty.
    """

    name: str
    kind: Kind
    required: bool
    default: str | None
    schema: Schema
    alias: str


@dataclass(frozen=True, slots=True)
class Function:
    """One function.

    Attributes:
        name: what clients call it.
        doc: its docstring.
        streams: whether it gives a stream of values or exactly one.
        parameters: what it takes, in order.
        value: the JSON Schema of its value or, where it streams, of each item.
        idempotent: whether running it twice is as good as once.
        reply_bytes: bytes of JSON that its value, or one item, has at most; 0 where its server alone knows.
    """

    name: str
    doc: str
    streams: bool
    parameters: tuple[Parameter, ...]
    value: Schema
    idempotent: bool = False
    reply_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Contract:
    """What a service takes and gives.

    Attributes:
        service: its full name, such as ``chat.v1.ChatService``.
        functions: in the order of exposure.
        definitions: the JSON Schemas that the functions' schemas refer to, by name.
    """

    service: str
    functions: tuple[Function, ...]
    definitions: Mapping[str, Schema]

    @classmethod
    def of(cls, service: Service) -> Self:
        """The contract of a service.

        Raises:
            ExposeError: an annotation of an exposed function names something that is not defined.
        """
        return cls._of(service.name, service.procedures.values())

    @classmethod
    def _of(cls, service: str, procedures: Iterable[Procedure]) -> Self:
        drafts = [(procedure, _parameters(procedure)) for procedure in procedures]
        types: list[tuple[Any, Way]] = []
        for procedure, parameters in drafts:
            types.extend((schema, "validation") for _, schema in parameters)
            types.append((procedure.value.schema, "serialization"))
        try:
            schemas, definitions = json_schemas(types)
        except Exception as error:  # of code that a type describes itself with
            where = _undescribable(drafts)
            raise ExposeError(f"{service}: {where} can't be described as a JSON Schema: {error!r}") from error
        made = iter(schemas)
        functions = tuple(
            Function(
                name=procedure.name,
                doc=procedure.doc,
                streams=procedure.streams,
                parameters=tuple(_completed(draft, next(made)) for draft, _ in parameters),
                value=next(made),
                idempotent=procedure.idempotent,
                reply_bytes=procedure.limits.reply_bytes or 0,
            )
            for procedure, parameters in drafts
        )
        return cls(service, functions, definitions)

    def sent(self) -> set[str]:
        """The names of the definitions that callers send, in whatever argument."""
        schemas = (parameter.schema for function in self.functions for parameter in function.parameters)
        return reached(schemas, self.definitions)

    def fingerprint(self, function: Function) -> str:
        """A hash of all that a caller of a function relies on: 16 hexadecimal digits.

        Docs, and the names of types, can change without changing it.
        """
        names: dict[str, str] = {}
        parameters = [
            (parameter.alias or parameter.name, parameter.kind, parameter.required, parameter.default)
            for parameter in function.parameters
        ]
        schemas = [canonical(schema, names) for schema in (*(p.schema for p in function.parameters), function.value)]
        met: list[Any] = []
        while len(met) < len(names):
            met.append(canonical(self.definitions[list(names)[len(met)]], names))
        text = json.dumps([function.streams, parameters, schemas, met], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[: 2 * _FINGERPRINT_BYTES]

    def as_json(self) -> dict[str, Any]:
        """The contract as one JSON object, for people and for other programs."""
        return {
            "service": self.service,
            "functions": [
                {
                    "name": function.name,
                    "path": rpc_path(self.service, function.name),
                    "doc": function.doc,
                    "streams": function.streams,
                    "idempotent": function.idempotent,
                    "parameters": [
                        {
                            "name": parameter.name,
                            **({"alias": parameter.alias} if parameter.alias else {}),
                            "kind": parameter.kind.name.lower(),
                            "required": parameter.required,
                            **({} if parameter.default is None else {"default": json.loads(parameter.default)}),
                            "schema": parameter.schema,
                        }
                        for parameter in function.parameters
                    ],
                    "value": function.value,
                    **({"reply_bytes": function.reply_bytes} if function.reply_bytes else {}),
                    "fingerprint": self.fingerprint(function),
                }
                for function in self.functions
            ],
            "$defs": dict(self.definitions),
        }


_fingerprints: Final[WeakKeyDictionary[Procedure, str]] = WeakKeyDictionary()


def fingerprint(procedure: Procedure) -> str:
    """The hash of all that a caller of a procedure relies on: that of its function in any contract."""
    known = _fingerprints.get(procedure)
    if known is None:
        contract = Contract._of(procedure.service, [procedure])
        known = _fingerprints[procedure] = contract.fingerprint(contract.functions[0])
    return known


def _parameters(procedure: Procedure) -> list[tuple[Parameter, Any]]:
    """Each parameter, still without its default and most of its JSON Schema, and Pydantic's schema of it."""
    definitions, arguments = split_definitions(procedure.arguments.schema)
    drafts: list[tuple[Parameter, Any]] = []

    def draft(name: str, kind: Kind, schema: Any, *, required: bool = False, alias: Any = None) -> None:
        called = wire_name(name, alias)
        others = alias_names(alias)[1:]
        told: Schema = {ALIASES: others} if others else {}
        parameter = Parameter(name, kind, required, None, told, "" if called == name else called)
        drafts.append((parameter, with_definitions(schema, definitions)))

    given = {schema["name"]: schema for schema in arguments["arguments_schema"]}
    fields = unpacked(arguments)
    for parameter in procedure.signature.parameters.values():
        name, kind = parameter.name, Kind(parameter.kind)
        if kind is Kind.VAR_POSITIONAL:
            draft(name, kind, arguments["var_args_schema"])
        elif kind is not Kind.VAR_KEYWORD:
            schema = given[name]["schema"]
            draft(name, kind, schema, required=schema["type"] != "default", alias=given[name].get("alias"))
        elif fields is None:
            draft(name, kind, arguments["var_kwargs_schema"])
        else:  # parameters by name, as many as there are fields
            total = arguments["var_kwargs_schema"].get("total", True)
            for key, field in fields.items():
                required, alias = field.get("required", total), field.get("validation_alias")
                name = key
                if not key.isidentifier() or keyword.iskeyword(key):
                    name, alias = re.sub(r"\W", "_", f"argument_{key}", flags=re.ASCII), alias or key
                draft(name, Kind.KEYWORD_ONLY, field["schema"], required=required, alias=alias)
    return drafts


def _undescribable(drafts: list[tuple[Procedure, list[tuple[Parameter, Any]]]]) -> str:
    """The first type that has no JSON Schema, by where it is."""
    for procedure, parameters in drafts:
        types: list[tuple[str, Any, Way]] = [
            (f"parameter {it.name!r}", schema, "validation") for it, schema in parameters
        ]
        types.append(("what it gives", procedure.value.schema, "serialization"))
        for where, schema, way in types:
            try:
                json_schemas([(schema, way)])
            except Exception:
                return f"in {procedure.name}, the type of {where}"
    return "a type"  # of all together, and of none alone


def _completed(draft: Parameter, schema: Schema) -> Parameter:
    default = None
    if "default" in schema:
        schema = dict(schema)
        told = schema.pop("default")
        default = None if told == _MASK else compact(told)
    return replace(draft, schema={**schema, **draft.schema}, default=default)

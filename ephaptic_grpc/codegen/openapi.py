"""OpenAPI 3.1 from contracts: of the plain JSON that ``ephaptic_grpc.asgi`` speaks, with a path for each function."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ephaptic_grpc.contract import Contract, Function, Kind, Parameter
from ephaptic_grpc.names import rpc_path
from ephaptic_grpc.schemas import Schema, renamed

_COMPONENTS: Final = "#/components/schemas/"
_STATUS: Final = "google.rpc.Status"
_STATUS_SCHEMA: Final[Schema] = {
    "description": "Why a call failed.",
    "type": "object",
    "properties": {
        "code": {"type": "integer", "description": "A google.rpc.Code, such as 5 for NOT_FOUND."},
        "message": {"type": "string"},
        "details": {
            "type": "array",
            "items": {"type": "object", "properties": {"@type": {"type": "string"}}, "required": ["@type"]},
        },
    },
    "required": ["code", "message"],
}
_FAILURE: Final = {
    "description": "The call failed: the HTTP status is that of its google.rpc.Code.",
    "content": {"application/json": {"schema": {"$ref": _COMPONENTS + _STATUS}}},
}
_BY_POSITION: Final = "Arguments by name; or, in an array, by position."
_LINES: Final = (
    'An item a line. Where the stream fails, the last line is {"error": ...} with a google.rpc.Status, after a space, '
    "which no item begins with."
)
_EVENTS: Final = (
    "Server-Sent Events, for who accepts them: an item in the data of each, numbered from 1. Where the stream fails, "
    "the last event is called error, and has a google.rpc.Status."
)


def is_openapi(name: str) -> bool:
    """Whether a file of that name is an OpenAPI document: ``openapi.json``, or something before ``.openapi.json``."""
    return name == "openapi.json" or name.endswith(".openapi.json")


def openapi_json(contract: Contract) -> str:
    """The text of a file that describes one service."""
    *_, version, name = f"1.{contract.service}".split(".")
    document = {"openapi": "3.1.0", "info": {"title": name, "version": version}}
    return json.dumps(with_services(document, [contract]), indent=2) + "\n"


def with_services(document: Mapping[str, Any], contracts: Iterable[Contract], prefix: str = "") -> dict[str, Any]:
    """An OpenAPI document that describes services besides what it describes already; the given one stays as it is.

    Args:
        document: any of version 3.1, such as FastAPI's.
        contracts: those of the services.
        prefix: where they are mounted, such as ``/rpc``.
    """
    components = document.get("components", {})
    schemas = {**components.get("schemas", {}), _STATUS: _STATUS_SCHEMA}
    paths = dict(document.get("paths", {}))
    for contract in contracts:
        names = _component_names(contract, schemas)
        for name, schema in contract.definitions.items():
            schemas[names[name]] = renamed(schema, names, _COMPONENTS)
        for function in contract.functions:
            path = prefix + rpc_path(contract.service, function.name)
            paths[path] = {"post": _operation(contract.service, function, names)}
    return {**document, "paths": paths, "components": {**components, "schemas": schemas}}


def _component_names(contract: Contract, taken: Mapping[str, Schema]) -> dict[str, str]:
    """What the definitions of a contract are called: with the service's name where another has theirs."""
    names: dict[str, str] = {}
    used = set(taken)
    for name in contract.definitions:
        plain = re.sub(r"[^A-Za-z0-9._-]", "_", name) or "_"
        called = plain if plain not in used else f"{contract.service}.{plain}"
        while called in used:
            called += "_"
        used.add(called)
        names[name] = called
    return names


def _operation(service: str, function: Function, names: Mapping[str, str]) -> dict[str, Any]:
    def schema(of: Schema) -> Schema:
        made: Schema = renamed(of, names, _COMPONENTS)
        return made

    body = _arguments(function.parameters)
    required = bool(body.get("required") or body.get("minItems"))
    operation: dict[str, Any] = {"operationId": f"{service}.{function.name}", "tags": [service]}
    if function.doc:
        operation["summary"] = function.doc.splitlines()[0]
        if operation["summary"] != function.doc:
            operation["description"] = function.doc
    operation["requestBody"] = {"required": required, "content": {"application/json": {"schema": schema(body)}}}
    operation["responses"] = {"200": _answer(function, schema(function.value)), "default": _FAILURE}
    return operation


def _arguments(parameters: tuple[Parameter, ...]) -> Schema:
    """The schema of a body: of an object where all can be given by name, else of an array."""
    kinds = {parameter.kind for parameter in parameters}
    if kinds & {Kind.POSITIONAL_ONLY, Kind.VAR_POSITIONAL}:
        rest = next((one.schema for one in parameters if one.kind is Kind.VAR_POSITIONAL), False)
        positional = [one for one in parameters if one.kind is not Kind.VAR_POSITIONAL]
        least = sum(one.required for one in positional)
        array = {"type": "array", "items": rest, "minItems": least}
        return {**array, "prefixItems": [_with_default(one) for one in positional]} if positional else array
    named = [one for one in parameters if one.kind is not Kind.VAR_KEYWORD]
    rest = next((one.schema for one in parameters if one.kind is Kind.VAR_KEYWORD), False)
    return {
        "type": "object",
        "description": _BY_POSITION,
        "properties": {one.alias or one.name: _with_default(one) for one in named},
        "required": [one.alias or one.name for one in named if one.required],
        "additionalProperties": rest,
    }


def _with_default(parameter: Parameter) -> Schema:
    if parameter.default is None:
        return parameter.schema
    return {**parameter.schema, "default": json.loads(parameter.default)}


def _answer(function: Function, schema: Schema) -> dict[str, Any]:
    if not function.streams:
        return {"description": "The value.", "content": {"application/json": {"schema": schema}}}
    content = {
        kind: {"schema": {"type": "string", "description": text, "contentMediaType": kind, "contentSchema": schema}}
        for kind, text in (("application/jsonl", _LINES), ("text/event-stream", _EVENTS))
    }
    return {"description": "A stream: each item arrives when the function gives it.", "content": content}

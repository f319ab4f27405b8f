"""A contract from elsewhere may hold anything: it is refused in words, or everything can be made of it."""

import json
import sys
import types
from random import Random

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from hypothesis import given, settings
from hypothesis import strategies as st

from ephaptic_grpc.codegen.contract_json import contract_json
from ephaptic_grpc.codegen.openapi import openapi_json
from ephaptic_grpc.codegen.proto import proto_files
from ephaptic_grpc.codegen.python import python_module
from ephaptic_grpc.codegen.typescript import typescript_module
from ephaptic_grpc.contract import Contract
from ephaptic_grpc.declared import declarations_of
from ephaptic_grpc.descriptors import DEFINITIONS_OPTION, FUNCTION_OPTION, file_of, read_file
from ephaptic_grpc.evolution import evolution
from ephaptic_grpc.vocabulary import BY_NAME, COUNTS, DOCS, NUMBERS, ONE, SEVERAL, misfits

KEYWORDS = [
    *(*BY_NAME, *SEVERAL, *ONE, *NUMBERS, *COUNTS, *DOCS, "type", "required", "enum", "const", "discriminator"),
    *("format", "pattern", "$ref", "default", "uniqueItems"),
]
NODE = {"$ref": "#/$defs/Node"}
VALUES = [
    *(None, True, False, 0, -1, 1.5, 10**400, "", "x", "string", "integer", "object", "array", "null", "decimal"),
    *([], {}, [1], ["x"], [[]], [{}], {"x": 1}, NODE, NODE["$ref"], {"type": "array"}, {"type": ["string", "null"]}),
    *({"enum": [1, "a", None, [1]]}, {"enum": []}, {"const": {}}, {"anyOf": [NODE, {"type": "null"}]}, {"anyOf": []}),
    {"__class__": {"type": "string"}, "": {}, "a-b": {}, "a_b": True, "class": {}, "self": {}},
]


def mutated(value, random: Random, keyword: str = ""):
    """A JSON value with one thing in it that is another, mostly one that the keyword over it can have."""
    inside = random.random() < 0.75
    if isinstance(value, dict) and value and inside:
        key = random.choice(list(value))
        return {**value, key: mutated(value[key], random, key)}
    if isinstance(value, dict):
        keyword = random.choice(KEYWORDS)
        return {**value, keyword: mutated(None, random, keyword)}
    if isinstance(value, list) and value and inside:
        index = random.randrange(len(value))
        return [*value[:index], mutated(value[index], random), *value[index + random.choice([0, 1]) :]]
    fitting = [value for value in VALUES if not any(misfits({keyword: value}))]
    return random.choice(fitting if random.random() < 0.9 else VALUES)


def malformed(file: FileDescriptorProto, random: Random) -> FileDescriptorProto:
    (service,) = file.service
    definitions = service.options.Extensions[DEFINITIONS_OPTION]
    functions = [method.options.Extensions[FUNCTION_OPTION] for method in service.method]
    parameters = [parameter for function in functions for parameter in function.parameters]
    for _ in range(random.choice([1, 1, 3])):
        kind = random.randrange(9)
        if kind < 3:
            change(random.choice(definitions), "schema", random)
        elif kind < 5:
            change(random.choice(functions), "value", random)
        elif kind < 7:
            change(random.choice(parameters), "schema", random)
        elif kind == 7:
            parameter = random.choice(parameters)
            parameter.kind, parameter.required = random.randrange(7), random.choice([True, False])
            parameter.alias, parameter.default = random.choice(["", "x", "query"]), json.dumps(random.choice(VALUES))
        else:
            random.choice(functions).parameters.append(random.choice(parameters))
    return file


def change(message, field: str, random: Random) -> None:
    setattr(message, field, json.dumps(mutated(json.loads(getattr(message, field)), random)))


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False))
def test_it_is_refused_in_words_or_is_good_for_everything(shapes, random):
    contract = Contract.of(shapes)
    try:
        (read,) = read_file(malformed(file_of(contract), random))
    except ValueError as error:
        assert str(error).startswith("shapes.v1.ShapesService")
        return
    for emit in (contract_json, openapi_json, typescript_module, lambda read: proto_files([read])):
        emit(read)
    for old, new in ((contract, read), (read, contract), (read, read)):
        evolution(old, new)
    module = sys.modules["malformed"] = types.ModuleType("malformed")
    exec(python_module(read), vars(module))
    declared = declarations_of(module.ShapesService)
    for function in read.functions:
        declared.method(function.name)

"""Whatever is in a contract, it never leaves its literal or its comment: names, docs, defaults, keys, enum values."""

import ast
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc_tools
import pytest
from google.protobuf import descriptor_pb2
from grpc_tools import protoc
from hostile_contracts import contracts, hostile_contracts
from hypothesis import given, settings

from ephaptic_grpc.codegen.contract_json import contract_json
from ephaptic_grpc.codegen.openapi import openapi_json
from ephaptic_grpc.codegen.proto import proto_files
from ephaptic_grpc.codegen.python import python_module
from ephaptic_grpc.codegen.stubs import python_stubs
from ephaptic_grpc.contract import Contract, Function
from ephaptic_grpc.descriptors import file_of, read_file

WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"


@hostile_contracts
@given(contracts)
def test_python_has_nothing_but_declarations(contract):
    module = ast.parse(python_module(contract).encode("utf-8", "strict"))
    imported = set()
    for node in module.body:
        if isinstance(node, ast.ImportFrom):
            imported.add(node.module)
        elif isinstance(node, ast.Assign):
            assert ast.unparse(node.value.func) == "TypeAliasType"
            assert all(isinstance(argument, ast.Constant) for argument in node.value.args)
        elif isinstance(node, ast.ClassDef):
            check_class(node)
        else:
            assert isinstance(node, ast.Expr)
            assert isinstance(node.value, ast.Constant)
    assert imported <= {
        "__future__", "builtins", "datetime", "decimal", "enum", "ephaptic_grpc.generated", "ipaddress", "pathlib",
        "pydantic", "typing", "typing_extensions", "uuid",
    }  # fmt: skip


def check_class(node: ast.ClassDef) -> None:
    assert all(isinstance(base, ast.Name) for base in node.bases)
    names = set()
    for member in node.body:
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(member.name)
            assert all(isinstance(one, ast.Raise) or isinstance(one.value, ast.Constant) for one in member.body)
        elif isinstance(member, ast.AnnAssign):
            assert member.target.id not in names
            names.add(member.target.id)
        elif isinstance(member, ast.Assign):
            assert isinstance(member.value, ast.Constant | ast.UnaryOp)
        else:
            assert isinstance(member, ast.Pass) or isinstance(member.value, ast.Constant)
    for call in (one for one in ast.walk(node) if isinstance(one, ast.Call)):
        assert ast.unparse(call.func).lstrip("_") in ("declared", "default", "Field")
        arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
        assert all(isinstance(argument, ast.Constant) for argument in arguments)


@hostile_contracts
@given(contracts)
def test_protoc_reads_the_contract_that_was_written(contract):
    files = proto_files([contract])
    with TemporaryDirectory() as name:
        folder = Path(name)
        for path, written in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(written, "utf-8", newline="\n")
        arguments = ["protoc", f"-I{folder}", f"-I{WELL_KNOWN}", f"--descriptor_set_out={folder}/set.binpb"]
        assert protoc.main([*arguments, "hostile/v1/hostile.proto"]) == 0
        (file,) = descriptor_pb2.FileDescriptorSet.FromString((folder / "set.binpb").read_bytes()).file
    assert file == file_of(contract)
    try:
        assert read_file(file) == [contract]
    except ValueError as error:
        assert "is made of nothing but itself" in str(error)  # {"$ref": ...} to where it stands


@settings(hostile_contracts, max_examples=20)
@given(contracts)
def test_stubs_are_python(contract):
    for path, written in python_stubs(proto_files([contract])).items():
        if path.endswith(".py"):
            compile(written, path, "exec")


@hostile_contracts
@given(contracts)
def test_json_is_the_contract(contract):
    assert json.loads(contract_json(contract)) == json.loads(json.dumps(contract.as_json()))


@hostile_contracts
@given(contracts)
def test_openapi_is_json_with_one_path_for_each_function(contract):
    document = json.loads(openapi_json(contract).encode("utf-8", "strict"))
    assert len(document["paths"]) == len(contract.functions)
    for operations in document["paths"].values():
        assert set(operations) == {"post"}
    assert set(document) <= {"openapi", "info", "paths", "components"}


@pytest.mark.parametrize("doc", ['"', '\\"', 'x"""', '"""', "\\", '\\\\"', 'a\\\n"', " ", "\n"])
def test_a_docstring_says_what_it_said(doc):
    function = Function("f", doc, False, (), {"type": "null"})
    module = ast.parse(python_module(Contract("hostile.v1.HostileService", (function,), {})))
    method = module.body[-1].body[-1]
    assert (ast.get_docstring(method) or "") == doc.strip()

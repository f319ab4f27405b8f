"""Whatever is in a contract, it never leaves its literal or its comment: names, docs, defaults, keys, enum values."""

import ast
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc_tools
import pytest
from google.protobuf import descriptor_pb2
from grpc_tools import protoc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ephaptic_grpc.codegen.contract_json import contract_json
from ephaptic_grpc.codegen.proto import proto_files
from ephaptic_grpc.codegen.python import python_module
from ephaptic_grpc.codegen.stubs import python_stubs
from ephaptic_grpc.contract import Contract, Function, Kind, Parameter
from ephaptic_grpc.descriptors import file_of, read_file
from ephaptic_grpc.schemas import compact

WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"

ESCAPES = [
    *('"""', "'''", "\\", '\\"', '"', "'", "\n", "\r", "\u2028", "\x0c", "*/", "/*", "//", "};", "\\N{x}", "\\u12"),
    *("\\x", "{x}", "#", "\x00", "$", "`", "</script>", "import os\nos.system('x')", "\ufb01", "__import__('os')"),
]
text = st.lists(st.sampled_from(ESCAPES) | st.text(st.characters(codec="utf-8"), max_size=6), max_size=6).map("".join)
keys = text | st.sampled_from(["self", "model_config", "class", "date", "list", "__init__", "default", "constants", ""])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)


NAMES = ["User", "list", '"""\\\n', "\u00bc-Input", "\u00bc_Input", "Model", ""]
"""Of definitions. Any schema can refer to any of them."""

leaves = st.one_of(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "integer", "number", "boolean", "null", "object", "array", "nonsense"])},
        optional={"description": text, "format": keys, "title": text},
    ),
    st.fixed_dictionaries({"const": json_values}),
    st.fixed_dictionaries({"enum": st.lists(json_values, max_size=3)}),
    st.fixed_dictionaries({"$ref": st.sampled_from([f"#/$defs/{name}" for name in NAMES])}),
    st.just({}),
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"type": st.just("array"), "items": inner, "uniqueItems": st.booleans()}),
        st.fixed_dictionaries({"type": st.just("array"), "prefixItems": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"type": st.just("object"), "additionalProperties": inner | st.booleans()}),
    ),
    max_leaves=4,
)
fields = st.tuples(schemas, st.just({}) | st.fixed_dictionaries({"default": json_values})).map(
    lambda both: {**both[0], **both[1]}
)
definitions = st.one_of(
    schemas,
    st.fixed_dictionaries(
        {
            "description": text,
            "enum": st.lists(text | st.integers(), min_size=1, max_size=4),
            "x-enum-varnames": st.lists(keys, max_size=4),
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("object"),
            "description": text,
            "properties": st.dictionaries(keys, fields, max_size=4),
            "required": st.lists(keys, max_size=2),
        }
    ),
)
parameters = st.builds(
    Parameter,
    name=st.sampled_from(["self", "__x", "x", "str", "_"]),
    kind=st.just(Kind.KEYWORD_ONLY),
    required=st.booleans(),
    default=st.none() | json_values.map(compact),
    schema=schemas,
    alias=text,
)
functions = st.builds(
    Function,
    name=st.sampled_from(["f", "list", "str", "date", "Model", "default"]),
    doc=text,
    streams=st.booleans(),
    parameters=st.lists(parameters, max_size=3, unique_by=lambda one: one.name).map(tuple),
    value=schemas,
)
contracts = st.builds(
    Contract,
    service=st.just("hostile.v1.HostileService"),
    functions=st.lists(functions, max_size=3, unique_by=lambda one: one.name).map(tuple),
    definitions=st.fixed_dictionaries(dict.fromkeys(NAMES, definitions)),
)

hostile = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@hostile
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


@hostile
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


@settings(hostile, max_examples=20)
@given(contracts)
def test_stubs_are_python(contract):
    for path, written in python_stubs(proto_files([contract])).items():
        if path.endswith(".py"):
            compile(written, path, "exec")


@hostile
@given(contracts)
def test_json_is_the_contract(contract):
    assert json.loads(contract_json(contract)) == json.loads(json.dumps(contract.as_json()))


@pytest.mark.parametrize("doc", ['"', '\\"', 'x"""', '"""', "\\", '\\\\"', 'a\\\n"', " ", "\n"])
def test_a_docstring_says_what_it_said(doc):
    function = Function("f", doc, False, (), {"type": "null"})
    module = ast.parse(python_module(Contract("hostile.v1.HostileService", (function,), {})))
    method = module.body[-1].body[-1]
    assert (ast.get_docstring(method) or "") == doc.strip()

"""What is written from a contract: golden files, and what they are good for."""

import ast
import datetime as dt
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Annotated

import pytest
from google.protobuf import descriptor_pb2
from grpc_tools import protoc
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from ephaptic_grpc import Service
from ephaptic_grpc.codegen.contract_json import contract_json
from ephaptic_grpc.codegen.proto import SHARED_FILES, described, proto_files
from ephaptic_grpc.codegen.python import python_module
from ephaptic_grpc.codegen.stubs import python_stubs
from ephaptic_grpc.codegen.typescript import typescript_module
from ephaptic_grpc.contract import Contract
from ephaptic_grpc.descriptors import descriptor_set

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests/golden"
BUF = shutil.which("buf", path=str(Path(sys.executable).parent))


@pytest.fixture
def contract(shapes):
    return Contract.of(shapes)


def put(folder: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def buf(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    assert BUF, "buf is not installed: it is in the dependency group 'test', as buf-bin"
    environment = {**os.environ, "BUF_CACHE_DIR": str(cwd / ".buf")}
    return subprocess.run([BUF, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.once
def test_the_golden_files_are_what_is_made(contract):
    """Else: scripts/golden, and a look at what it changes. JSON Schemas are those of the newest Pydantic."""
    for path, text in proto_files([contract]).items():
        assert (GOLDEN / "protos" / path).read_text() == text
    assert (GOLDEN / "shapes_client.py").read_text() == python_module(contract)
    assert (GOLDEN / "shapes_client.json").read_text() == contract_json(contract)
    assert (GOLDEN / "shapes_client.ts").read_text() == typescript_module(contract)


def test_the_same_contract_gives_the_same_text(contract):
    again = Contract.of(Service("shapes.v1.ShapesService"))
    assert python_module(again) == python_module(again)
    assert proto_files([contract]) == proto_files([contract])
    assert python_module(contract) == python_module(contract)


def test_what_protoc_reads_is_the_descriptor_that_is_made(contract, tmp_path):
    put(tmp_path, proto_files([contract]))
    arguments = ["protoc", f"-I{tmp_path}", f"-I{well_known()}", "--include_imports"]
    assert protoc.main([*arguments, f"--descriptor_set_out={tmp_path}/set.binpb", "shapes/v1/shapes.proto"]) == 0
    read = descriptor_pb2.FileDescriptorSet.FromString((tmp_path / "set.binpb").read_bytes())
    made = {file.name: file for file in descriptor_set([contract]).file}
    # Everybody has a descriptor.proto of their own release.
    assert [file.name for file in read.file][1:] == [*SHARED_FILES, "shapes/v1/shapes.proto"]
    for file in read.file[1:]:
        assert file == made[file.name], file.name


def well_known() -> Path:
    import grpc_tools

    return Path(grpc_tools.__file__).parent / "_proto"


@pytest.mark.once
def test_buf_finds_nothing_to_say_of_it(contract, tmp_path):
    put(tmp_path, proto_files([contract]))
    shutil.copy(ROOT / "protos/buf.yaml", tmp_path)
    done = buf("lint", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.once
def test_buf_sees_that_a_function_is_gone(contract, shapes, tmp_path):
    (tmp_path / "old.binpb").write_bytes(descriptor_set([contract]).SerializeToString())
    fewer = Contract(contract.service, contract.functions[1:], contract.definitions)
    put(tmp_path, proto_files([fewer]))
    shutil.copy(ROOT / "protos/buf.yaml", tmp_path)
    done = buf("breaking", "--against", "old.binpb", "--exclude-imports", cwd=tmp_path)
    assert done.returncode != 0
    assert 'Previously present RPC "Echo" on service "ShapesService" was deleted' in done.stdout


def test_a_function_on_one_line(contract):
    lines = {function.name: described(function) for function in contract.functions}
    assert lines["trees"] == "trees(node: Node, depth: int = 3, *, name: str | None = None) -> stream of Node"
    assert lines["find"] == "find(query: str, /, near: Pair = [1, 'x'], *rest: int) -> list[str]"
    assert lines["login"] == "login(user: str, password: SecretStr = ..., **more: Movie) -> None"


def test_a_function_on_one_line_has_the_names_of_json():
    service = Service("shop.v1.ShopService")

    @service.expose
    def find(from_: Annotated[int, Field(alias="from")]) -> None: ...

    assert described(Contract.of(service).functions[0]) == "find(from: int) -> None"


def test_a_docstring_never_leaves_its_comment():
    service = Service("chat.v1.ChatService")

    def innocent() -> int: ...

    innocent.__doc__ = "One.\n}\r\nrpc\x0bEvil\u2028option\x00 \udc80 */"
    service.expose(innocent)
    files = proto_files([Contract.of(service)])
    python_stubs(files)  # protoc reads it
    lines = [line for line in files["chat/v1/chat.proto"].split("\n") if line.startswith("  // ")]
    assert lines == ["  // One.", "  // }", "  // rpc", "  // Evil", "  // option    */", "  // innocent() -> int"]


def test_two_services_in_one_file_are_refused():
    with pytest.raises(ValueError, match=r"chat/v1/chat\.proto"):
        proto_files(map(Contract.of, [Service("chat.v1.ChatService"), Service("chat.v1.Chat")]))


@pytest.mark.parametrize("name", ["pay.v1.PayloadService", "law.v1.ContractService"])
def test_a_service_beside_a_shared_file_is_refused(name):
    with pytest.raises(ValueError, match=rf"{name} would be in \w+/v1/\w+\.proto"):
        proto_files([Contract.of(Service(name))])


def test_what_the_server_fills_in_is_there_in_what_comes_back():
    class Receipt(BaseModel):
        id: int = Field(default_factory=lambda: 7)

    class Note(BaseModel):
        id: int = Field(default_factory=lambda: 7)

    @dataclass
    class Stamp:
        at: float = field(default_factory=lambda: 7.0)

    class Maybe(TypedDict, total=False):
        id: int

    service = Service("shop.v1.ShopService")

    @service.expose
    def buy(note: Note) -> tuple[Receipt, Note, Stamp, Maybe]: ...

    python, typescript = (emit(Contract.of(service)) for emit in (python_module, typescript_module))
    assert "class Receipt(Model):\n    id: int\n" in python
    assert "class Note(SparseModel):\n    id: int | None = default()\n" in python  # None where the caller leaves it out
    assert "class Stamp(Model):\n    at: float\n" in python
    assert "class Maybe(SparseModel):\n    id: int | None = default()\n" in python
    for interface in ("Receipt {\n  id:", "Note {\n  id:", "NoteInput {\n  id?:", "Stamp {\n  at:", "Maybe {\n  id?:"):
        assert f"export interface {interface} number;" in typescript


def test_a_service_without_functions_is_one():
    contract = Contract.of(Service("empty.v1.EmptyService"))
    python_stubs(proto_files([contract]))
    compile(python_module(contract), "empty", "exec")


@pytest.mark.parametrize("place", ["package", "path"])
def test_stubs_work_wherever_they_are_put(contract, tmp_path, place):
    put(tmp_path / "my_stubs", python_stubs(proto_files([contract])))
    folder = tmp_path if place == "package" else tmp_path / "my_stubs"
    package = "my_stubs." if place == "package" else ""
    code = (
        f"from {package}shapes.v1 import contract_pb2, payload_pb2, shapes_pb2, shapes_pb2_grpc\n"
        "import ephaptic_grpc.v1.contract_pb2, ephaptic_grpc.v1.payload_pb2\n"
        "assert payload_pb2.Payload is not None and shapes_pb2_grpc.ShapesServiceStub\n"
        "for shipped, copied in [(ephaptic_grpc.v1.payload_pb2, payload_pb2),"
        " (ephaptic_grpc.v1.contract_pb2, contract_pb2)]:\n"
        "    assert shipped.DESCRIPTOR.serialized_pb == copied.DESCRIPTOR.serialized_pb\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)


def test_stubs_have_nothing_absolute_but_google_and_grpc(contract):
    stubs = python_stubs(proto_files([contract]))
    assert set(stubs) == {
        f"shapes/v1/{name}"
        for name in (
            "contract_pb2.py",
            "contract_pb2.pyi",
            "payload_pb2.py",
            "payload_pb2.pyi",
            "shapes_pb2.py",
            "shapes_pb2.pyi",
            "shapes_pb2_grpc.py",
        )
    }
    for text in stubs.values():
        assert "import ephaptic_grpc" not in text
        assert "from ephaptic_grpc" not in text
        assert "from shapes" not in text


def test_names_that_mean_something_else_in_a_module_give_way(monkeypatch):
    service = Service("odd.v1.OddService")
    odd = TypedDict(
        "OddService", dict.fromkeys(("date", "model_config", "class", "copy", "_p", "9", "a-b", "a_b", ""), int)
    )

    class list(TypedDict):  # noqa: A001, N801
        list: set[str]
        date: dt.date
        str: str

    @service.expose(name="int")
    def exposed(self: list, __a: odd, *, date: str = "x") -> dict[str, list]: ...

    text = python_module(Contract.of(service))
    module = ast.parse(text)
    classes = {node.name: node for node in module.body if isinstance(node, ast.ClassDef)}
    assert set(classes) == {"OddService", "SyncOddService", "OddService_", "List"}
    fields = [node.target.id for node in classes["OddService_"].body if isinstance(node, ast.AnnAssign)]
    assert fields == ["date", "model_config_", "class_", "copy_", "p", "field_9", "a_b", "a_b_", "field"]
    assert "def int(\n        self_,\n        self: List,\n        a: Annotated[OddService_" in text
    odd_client = ModuleType("odd_client")
    monkeypatch.setitem(sys.modules, "odd_client", odd_client)
    exec(compile(text, "odd_client", "exec"), vars(odd_client))
    made = odd_client.OddService_.model_validate(dict.fromkeys(odd.__annotations__, 1))
    assert made.model_dump(by_alias=True) == dict.fromkeys(odd.__annotations__, 1)


def test_generating_imports_nothing_that_is_not_used(contract):
    for text in (python_module(contract), python_module(Contract.of(Service("empty.v1.EmptyService")))):
        module = ast.parse(text)
        names = {
            alias.asname or alias.name
            for node in module.body
            if isinstance(node, ast.ImportFrom) and node.module != "__future__"
            for alias in node.names
        }
        for name in names:
            assert text.count(name) > 1, name


def test_the_contract_as_json_is_whole(contract):
    read = json.loads(contract_json(contract))
    assert read["service"] == "shapes.v1.ShapesService"
    assert [function["name"] for function in read["functions"]] == [one.name for one in contract.functions]
    assert set(read["$defs"]) == set(contract.definitions)

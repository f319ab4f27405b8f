"""OpenAPI documents: what validators say of them, and what stands in them."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel

from ephaptic_grpc import Service
from ephaptic_grpc.codegen.openapi import is_openapi, openapi_json, with_services
from ephaptic_grpc.contract import Contract

GOLDEN = Path(__file__).parent / "golden"


class Node(BaseModel):
    value: int
    children: "list[Node]" = []


tree = Service("tree.v2.TreeService")


@tree.expose
async def grow(root: Node, depth: int = 1, /) -> Node:
    return root


@tree.expose
async def walk(root: Node, *, by: str = "depth", **limits: int) -> AsyncIterator[Node]:
    """Go through a tree.

    Each node once.
    """
    yield root


@tree.expose
async def total(*values: int) -> int:
    return sum(values)


@tree.expose
async def nothing() -> None: ...


def test_a_document():
    document = json.loads(openapi_json(Contract.of(tree)))
    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"] == "3.1.0"
    assert document["info"] == {"title": "TreeService", "version": "v2"}
    node = {"$ref": "#/components/schemas/Node"}
    assert document["components"]["schemas"]["Node"]["properties"]["children"]["items"] == node
    operation = document["paths"]["/tree.v2.TreeService/Walk"]["post"]
    assert operation["operationId"] == "tree.v2.TreeService.walk"
    assert operation["summary"] == "Go through a tree."
    assert operation["requestBody"]["required"]
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {
        "type": "object",
        "description": "Arguments by name; or, in an array, by position.",
        "properties": {"root": node, "by": {"type": "string", "default": "depth"}},
        "required": ["root"],
        "additionalProperties": {"type": "integer"},
    }
    answer = operation["responses"]["200"]
    assert "stream" in answer["description"]
    assert [*answer["content"]] == ["application/jsonl", "text/event-stream"]
    assert answer["content"]["application/jsonl"]["schema"]["contentSchema"] == node


def test_what_goes_by_position_only_is_an_array():
    paths = json.loads(openapi_json(Contract.of(tree)))["paths"]

    def body(rpc: str) -> dict:
        return paths[f"/tree.v2.TreeService/{rpc}"]["post"]["requestBody"]

    assert body("Grow") == {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "array",
                    "items": False,
                    "minItems": 1,
                    "prefixItems": [{"$ref": "#/components/schemas/Node"}, {"type": "integer", "default": 1}],
                }
            }
        },
    }
    total = body("Total")["content"]["application/json"]["schema"]
    assert total == {"type": "array", "items": {"type": "integer"}, "minItems": 0}
    assert not body("Nothing")["required"]


def test_every_shape(shapes):
    document = json.loads(openapi_json(Contract.of(shapes)))
    wrong = [*OpenAPIV31SpecValidator(document).iter_errors()]
    assert {error.validator for error in wrong} <= {"format"}  # a default without a time zone is Python's to have
    assert len(document["paths"]) == len(shapes.procedures)
    assert "#/$defs/" not in json.dumps(document)


def test_services_of_one_document_keep_their_models_apart():
    def described(name: str, **fields: type) -> Contract:
        service = Service(name)
        model = type("Model", (BaseModel,), {"__annotations__": fields})

        async def take(model) -> None: ...

        take.__annotations__["model"] = model
        service.expose(take)
        return Contract.of(service)

    given = {"openapi": "3.1.0", "info": {"title": "x", "version": "1"}, "paths": {"/x": {}}}
    document = with_services(given, [described("a.v1.A", a=int), described("b.v1.B", b=str)], "/rpc")
    OpenAPIV31SpecValidator(document).validate()
    assert [*given["paths"]] == ["/x"]
    assert [*document["paths"]] == ["/x", "/rpc/a.v1.A/Take", "/rpc/b.v1.B/Take"]
    assert {*document["components"]["schemas"]} == {"google.rpc.Status", "Model", "b.v1.B.Model"}


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("openapi.json", True), ("chat.openapi.json", True), ("chat.json", False), ("myopenapi.json", False)],
)
def test_the_name_of_a_file_says_whether_it_is_one(name, is_one):
    assert is_openapi(name) == is_one


def test_the_command(tmp_path):
    for name, key in (("openapi.json", "openapi"), ("contract.json", "service")):
        command = [sys.executable, "-m", "ephaptic_grpc", "generate", "shapes:shapes", "-o", tmp_path / name]
        subprocess.run(command, cwd=GOLDEN, check=True, capture_output=True)
        assert key in json.loads((tmp_path / name).read_text())
        subprocess.run([*command, "--check"], cwd=GOLDEN, check=True, capture_output=True)

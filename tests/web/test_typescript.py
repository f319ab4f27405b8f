"""Generated TypeScript clients: what tsc says of them, and what they do against a server."""

import json
import re
import string
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import HERE, node, serving
from hostile_contracts import contracts, hostile_contracts
from hostile_service import hostile
from hypothesis import given

from ephaptic_grpc.codegen.typescript import typescript_module
from ephaptic_grpc.contract import Contract

GOLDEN = HERE.parent / "golden"
STRICT = ["--strict", "--noEmit", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes", "--noImplicitOverride"]
STRICT += [
    "--noUnusedLocals",
    "--noUnusedParameters",
    "--erasableSyntaxOnly",
    "--isolatedModules",
    "--target",
    "es2022",
]
STRICT += [
    "--noPropertyAccessFromIndexSignature",
    "--noImplicitReturns",
    "--verbatimModuleSyntax",
    "--module",
    "esnext",
]


def check(file: Path, *options: str) -> None:
    node("node_modules/.bin/tsc", "--ignoreConfig", *STRICT, *options, "--moduleResolution", "bundler", file)


def code(text: str) -> str:
    """TypeScript without its comments and texts."""
    return re.sub(r'/\*.*?\*/|//.*|"(?:[^"\\]|\\.)*"', "", text, flags=re.DOTALL)


def test_tsc_has_nothing_to_say_of_a_client(tmp_path):
    for file in (GOLDEN / "shapes_client.ts", write(tmp_path)):
        assert not re.search(r"\bany\b(?!\??:)", code(file.read_text()))
        check(file, "--lib", "es2022,dom,dom.iterable", "--types", "")  # for a browser
        check(file, "--lib", "es2022", "--types", "node", "--typeRoots", str(HERE / "node_modules/@types"))  # for Node


def write(folder: Path) -> Path:
    """A client of the service with hostile names."""
    path = folder / "hostile.ts"
    path.write_text(typescript_module(Contract.of(hostile)), "utf-8")
    return path


def test_no_name_and_no_text_breaks_out(tmp_path):
    program = tmp_path / "hostile.mjs"
    node("node_modules/.bin/esbuild", write(tmp_path), "--bundle", "--format=esm", f"--outfile={program}")
    script = f"""
        import {{ connect, queries }} from {json.dumps(str(program))};
        const sent = [];
        const client = connect("http://x", {{ fetch: async (url, {{ body }}) => {{
          sent.push([url, new TextDecoder().decode(body.subarray(7))]);
          throw new TypeError("nobody there");
        }} }});
        if ("then" in client) throw new Error("the client would be taken for a promise");
        await client.then_(1, {{ message: "m" }}, {{ default: null }}).catch(() => {{}});
        await client.delete(1, {{}}, undefined, "t", {{ client: true }}).catch(() => {{}});
        await client.constructor(1, 2, [3])[Symbol.asyncIterator]().next().catch(() => {{}});
        await client.new(7).catch(() => {{}});
        await client.toString({{ asQuery: 2, more: 3 }}).catch(() => {{}});
        queries(client);
        console.log(JSON.stringify(sent));
    """
    assert json.loads(node("node", "--input-type=module", "-e", script)) == [
        ["http://x/hostile.v1.Stream/Then", '{"default":null,"function":1,"new":{"message":"m"}}'],
        ["http://x/hostile.v1.Stream/Delete", '{"client":true,"this":1,"options":{},"transport":"t"}'],
        ["http://x/hostile.v1.Stream/Constructor", "[1,2,3]"],
        ["http://x/hostile.v1.Stream/New", '{"new":7}'],
        ["http://x/hostile.v1.Stream/ToString", '{"asQuery":2,"more":3}'],
    ]


@pytest.mark.parametrize("edge", [[], ["--without-envoy"]], ids=["envoy", "without"])
def test_every_value_there_and_back(tmp_path, shapes, edge):
    program = tmp_path / "program.mjs"
    bundle = ["--bundle", "--platform=node", "--format=esm", f"--outfile={program}"]
    node("node_modules/.bin/esbuild", "shapes_program.ts", *bundle)
    from shapes import Everything

    example = json.loads(Everything.example().model_dump_json(by_alias=True))
    with serving("shapes", tmp_path, *edge, cwd=GOLDEN) as served:
        told = json.loads(node("node", program, served.web, json.dumps(example)))
    assert told["echo"] == example
    assert [tree["value"] for tree in told["trees"]] == [0, 1]
    assert told["find"] == ["x", "y", "2", "3"]
    assert told["pets"] == [{"kind": "cat", "lives": 9}, {"kind": "dog", "good": True}]
    assert [item["street"] for item in told["list"]["items"]] == ["1", "1"]
    assert (told["login"], told["nothing"]) == (None, None)
    assert "bad arguments" in told["stale"]


def test_the_command_writes_it_and_checks_it(tmp_path):
    command = [sys.executable, "-m", "ephaptic_grpc", "generate", "shapes:shapes", "-o", tmp_path / "client.ts"]
    result = subprocess.run(command, cwd=GOLDEN, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "client.ts").read_text() == (GOLDEN / "shapes_client.ts").read_text()
    assert subprocess.run([*command, "--check"], cwd=GOLDEN, capture_output=True).returncode == 0


TRANSFORM = """
    import { createInterface } from "node:readline";
    import { transformSync } from "esbuild";
    for await (const line of createInterface({ input: process.stdin })) {
      let told;
      try {
        told = [transformSync(JSON.parse(line), { loader: "ts", minifyWhitespace: true, charset: "utf8" }).code, null];
      } catch (error) {
        told = ["", error.errors[0]];
      }
      console.log(JSON.stringify(told));
    }
"""


@pytest.fixture(scope="module")
def transformed() -> Iterator[Callable[[str], str]]:
    """``transformed(text)``: TypeScript as a real parser understood it, without types and comments."""
    command = ["node", "--input-type=module", "-e", TRANSFORM]
    with subprocess.Popen(command, cwd=HERE, stdin=-1, stdout=-1, text=True) as process:

        def transformed(text: str) -> str:
            process.stdin.write(json.dumps(text) + "\n")
            process.stdin.flush()
            understood, error = json.loads(process.stdout.readline())
            assert error is None, error
            return understood

        yield transformed
        process.stdin.close()


@hostile_contracts
@given(contracts)
def test_whatever_is_in_a_contract_stays_in_its_literal_or_comment(transformed, contract):
    """What is left without texts is what this contract has by any other words."""
    told = code(transformed(typescript_module(contract)))
    assert not {*told} - {*string.printable}
    for escape in ("import os", "</script>", "__import__", "os.system"):
        assert escape not in told

"""The project as others get it: its public names, what is generated in it, and the wheel."""

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import ephaptic_grpc

ROOT = Path(__file__).parent.parent


def test_the_public_names():
    assert ephaptic_grpc.__all__ == [
        "TLS",
        "Call",
        "CallError",
        "Client",
        "ClientTLS",
        "ExposeError",
        "Limits",
        "PeerIdentity",
        "Server",
        "Service",
        "ServiceError",
        "Stream",
        "SyncClient",
        "SyncStream",
        "connect",
        "connect_sync",
        "current_call",
        "default_service",
        "expose",
    ]
    for name in ephaptic_grpc.__all__:
        assert getattr(ephaptic_grpc, name).__doc__


def test_every_test_of_a_module_has_its_module():
    modules = {path.stem for path in (ROOT / "ephaptic_grpc").rglob("*.py")} | {"codegen", "examples", "generate"}
    modules |= {"bench", "package", "typing"}
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py")}
    assert tests <= modules


def test_the_tests_that_the_docs_name_are_there():
    named = set(re.findall(r"\btest_\w+\b(?!\.py)", (ROOT / "docs/security.md").read_text()))
    defined = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert named - defined == set()


@pytest.mark.once
def test_what_is_generated_is_fresh(tmp_path):
    """Else: scripts/protos"""
    subprocess.run([ROOT / "scripts/protos", tmp_path], check=True, capture_output=True)
    made = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(map(str, made)) == [
        "ephaptic_grpc/v1/contract.proto",
        "ephaptic_grpc/v1/contract_pb2.py",
        "ephaptic_grpc/v1/contract_pb2.pyi",
        "ephaptic_grpc/v1/payload.proto",
        "ephaptic_grpc/v1/payload_pb2.py",
        "ephaptic_grpc/v1/payload_pb2.pyi",
        "protos/chat/v1/chat.proto",
        "protos/ephaptic_grpc/v1/contract.proto",
        "protos/ephaptic_grpc/v1/payload.proto",
    ]
    for path in made:
        assert (ROOT / path).read_text() == (tmp_path / path).read_text(), path


APP = """
from typing import AsyncIterator
from ephaptic_grpc import expose

@expose
async def count(to: int) -> AsyncIterator[int]:
    for number in range(to):
        yield number
"""

STUBS = """
import json, sys
import ephaptic, chat  # neither is in the way
import grpc
from stubs.functions.v1 import functions_pb2_grpc, payload_pb2

with grpc.insecure_channel(sys.argv[1]) as channel:
    stub = functions_pb2_grpc.FunctionsServiceStub(channel)
    print([json.loads(item.json) for item in stub.Count(payload_pb2.Payload(json='{"to": 2}'))])
"""


@pytest.mark.once
@pytest.mark.timeout(600)
def test_the_wheel_works_in_an_empty_environment(tmp_path):
    def run(*command: str | Path, code: int = 0) -> str:
        # cwd: not in the checkout, where the package would be found without being installed
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
        assert result.returncode == code, result.stdout + result.stderr
        return result.stdout

    environment = {**os.environ, "PYTHONPATH": ""}
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path / "dist", ROOT)
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty/bin/python"
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    run(python, "-m", "pip", "install", "--quiet", wheel, "ephaptic")
    (tmp_path / "chat.py").write_text(APP)
    (tmp_path / "call_stubs.py").write_text(STUBS)

    command = tmp_path / "empty/bin/ephaptic-grpc"
    run(command, "compile", "chat", "-o", "stubs", "--stubs")
    run(command, "generate", "chat", "-o", "client.ts")
    with subprocess.Popen(
        [command, "serve", "chat", "--port", "0"], cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=environment
    ) as server:
        try:
            assert "count" in server.stderr.readline()
            address = server.stderr.readline().split()[1]
            assert run(command, "call", address, "functions.v1.FunctionsService/count", "to:=3") == "0\n1\n2\n"
            assert run(python, "call_stubs.py", address) == "[0, 1]\n"
        finally:
            server.terminate()

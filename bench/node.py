"""The same service as ``over_http.py``, called as gRPC-Web by the TypeScript client that is generated, in Node.

The server of ``connectrpc`` is called there by connect-web.
"""

import asyncio
import json
import os
import shutil
import tempfile
from asyncio.subprocess import PIPE, Process
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from bench.bare import import_stubs
from bench.load import TEXT, Work
from bench.ours import service_of
from bench.over_http import server as server
from bench.worker import Commands
from ephaptic_grpc.codegen.typescript import typescript_module
from ephaptic_grpc.contract import Contract

_HERE: Final = Path(__file__).parent
_PACKAGES: Final = _HERE.parent / "tests" / "web" / "node_modules"
_ESBUILD: Final = _PACKAGES / ".bin" / "esbuild"

NODE_IS_THERE: Final = shutil.which("node") is not None and _ESBUILD.exists()
"""Node, and what ``scripts/setup --web`` installs to bundle the client."""


class NodeLoad(Commands):
    """What Node can be told: it counts by itself, as ``Load`` does."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def usage(self) -> tuple[float, int]:
        seconds, size = await self._ask("usage")
        return seconds, size

    async def unary(self, in_flight: int, seconds: float) -> Work:
        done, rate = await self._ask("unary", in_flight, seconds)
        return done, rate

    async def stream(self, function: str, streams: int, items: int, seconds: float) -> Work:
        done, rate = await self._ask("stream", function, streams, items, seconds)
        return done, rate

    async def _ask(self, *command: object) -> Any:
        assert self._process.stdin is not None  # noqa: S101  for type checkers
        assert self._process.stdout is not None  # noqa: S101  for type checkers
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("Node ended")
        return json.loads(line)


@asynccontextmanager
async def client(functions: str, address: str) -> AsyncIterator[NodeLoad]:
    with tempfile.TemporaryDirectory() as folder:
        generated = Path(folder) / "client.ts"
        generated.write_text(typescript_module(Contract.of(service_of(int(functions)))))
        async with _in_node(generated, address) as load:
            yield load


@asynccontextmanager
async def connect_web(_: str, stubs: str, address: str) -> AsyncIterator[NodeLoad]:
    """The server of ``connectrpc``, called by connect-web."""
    messages, _ = import_stubs(stubs)
    descriptors = FileDescriptorSet()
    messages.DESCRIPTOR.CopyToProto(descriptors.file.add())
    text = json.dumps(b64encode(descriptors.SerializeToString()).decode())
    async with _in_node(_HERE / "connect_web.ts", address, f"--define:DESCRIPTORS={text}") as load:
        yield load


@asynccontextmanager
async def _in_node(client: Path, address: str, *options: str) -> AsyncIterator[NodeLoad]:
    node = shutil.which("node")
    if node is None:
        raise RuntimeError("there is no Node")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program.mjs"
        bundle = ("--bundle", "--platform=node", "--format=esm", "--log-level=warning", f"--outfile={program}")
        command = (str(_ESBUILD), str(_HERE / "node_client.ts"), *bundle, f"--alias:generated={client}", *options)
        environment = {**os.environ, "NODE_PATH": str(_PACKAGES)}
        bundling = await asyncio.create_subprocess_exec(*command, env=environment)
        if await bundling.wait():
            raise RuntimeError("the client can't be bundled")
        process = await asyncio.create_subprocess_exec(node, str(program), address, TEXT, stdin=PIPE, stdout=PIPE)
        try:
            yield NodeLoad(process)
        finally:
            process.kill()
            await process.wait()

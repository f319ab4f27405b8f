"""The same service as ``over_http.py``, called as gRPC-Web by the TypeScript client that is generated, in Node."""

import asyncio
import json
import shutil
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from bench.load import TEXT, Work
from bench.ours import service_of
from bench.over_http import server as server
from bench.worker import Commands
from ephaptic_grpc.codegen.typescript import typescript_module
from ephaptic_grpc.contract import Contract

_HERE: Final = Path(__file__).parent
_ESBUILD: Final = _HERE.parent / "tests" / "web" / "node_modules" / ".bin" / "esbuild"

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
    node = shutil.which("node")
    if node is None:
        raise RuntimeError("there is no Node")
    with tempfile.TemporaryDirectory() as folder:
        generated, program = Path(folder) / "client.ts", Path(folder) / "program.mjs"
        generated.write_text(typescript_module(Contract.of(service_of(int(functions)))))
        options = ("--bundle", "--platform=node", "--format=esm", "--log-level=warning")
        command = (str(_ESBUILD), str(_HERE / "node_client.ts"), *options, f"--alias:generated={generated}")
        bundling = await asyncio.create_subprocess_exec(*command, f"--outfile={program}")
        if await bundling.wait():
            raise RuntimeError("the generated client can't be bundled")
        process = await asyncio.create_subprocess_exec(node, str(program), address, TEXT, stdin=PIPE, stdout=PIPE)
        try:
            yield NodeLoad(process)
        finally:
            process.kill()
            await process.wait()

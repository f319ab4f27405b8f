"""The service of ``ours.py`` behind an Envoy, and JavaScript clients of it in Node: our runtime, and connect-web.

Envoy runs on the servers' core, beside the server. Node is told what to do over a pipe, as every other client is.
"""

import asyncio
import gzip
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from bench import ours
from bench.load import TEXT, Work
from bench.worker import Commands, Served
from ephaptic_grpc.codegen.envoy import Gateway
from ephaptic_grpc.contract import Contract
from ephaptic_grpc.descriptors import descriptor_set
from ephaptic_grpc.web import running_envoy

_FOLDER: Final = Path(__file__).parents[1] / "tests" / "web"
PACKAGES: Final = _FOLDER / "node_modules"
"""Where npm has put what is needed here: by ``scripts/setup --node``."""

_ESBUILD: Final = PACKAGES / ".bin" / "esbuild"
_NEEDED: Final = {
    "runtime": 'export { createTransport } from "../../ephaptic_grpc/codegen/typescript/runtime.ts";',
    "connect-web": (
        'export { createClient } from "@connectrpc/connect";'
        'export { createGrpcWebTransport } from "@connectrpc/connect-web";'
        'export { create, createFileRegistry, fromBinary } from "@bufbuild/protobuf";'
    ),
    "grpc-web": 'export { GrpcWebClientBase, MethodDescriptor } from "grpc-web";',
}
"""What a page needs of each library to make a call."""


@asynccontextmanager
async def server(functions: str) -> AsyncIterator[Served]:
    async with ours.server(functions) as served:
        gateway = Gateway(upstreams=(await served.address(),), listen="127.0.0.1:0")
        async with running_envoy([ours.service_of(int(functions))], gateway) as envoy:
            yield Served(envoy.address)


@asynccontextmanager
async def runtime(functions: str, address: str) -> AsyncIterator[Commands]:
    async with _node("runtime", functions, address) as client:
        yield client


@asynccontextmanager
async def connect_web(functions: str, address: str) -> AsyncIterator[Commands]:
    async with _node("connect-web", functions, address) as client:
        yield client


@asynccontextmanager
async def grpc_web(functions: str, address: str) -> AsyncIterator[Commands]:  # noqa: ARG001  every variant is called so
    yield Library("grpc-web")


class Library(Commands):
    """What is known of a library without a call."""

    def __init__(self, library: str) -> None:
        self._library = library

    async def size(self) -> float:
        """KiB of what a page needs of it, minified and compressed."""
        options = ("--bundle", "--minify", "--format=esm", "--target=es2022", "--loader=ts")
        made = subprocess.run(  # noqa: ASYNC221, S603  the program is ours
            [_ESBUILD, *options], input=_NEEDED[self._library].encode(), cwd=_FOLDER, capture_output=True, check=True
        )
        return len(gzip.compress(made.stdout, 9)) / 1024


class Node(Library):
    """A client in Node."""

    def __init__(self, library: str, process: asyncio.subprocess.Process) -> None:
        super().__init__(library)
        self._process = process

    async def stream(self, function: str, streams: int, items: int, seconds: float) -> Work:
        """Items per second, of one stream after the other."""
        if streams != 1:
            raise RuntimeError("in Node one stream is measured at a time")
        work: Work = await self._ask("stream", function, TEXT, items, seconds)
        return work

    async def first_item(self, items: int, seconds: float) -> Work:
        """Milliseconds to the first item: the median of many streams, one after the other."""
        work: Work = await self._ask("first", "tokens", TEXT, items, seconds)
        return work

    async def usage(self) -> tuple[float, int]:
        used: tuple[float, int] = await self._ask("usage")
        return used

    async def _ask(self, *command: object) -> Any:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("Node has no pipes")
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        answer = await self._process.stdout.readline()
        if not answer:
            raise RuntimeError("Node has ended")
        return json.loads(answer)


@asynccontextmanager
async def _node(library: str, functions: str, address: str) -> AsyncIterator[Node]:
    with TemporaryDirectory() as name:
        program, descriptors = Path(name) / "bench.mjs", Path(name) / "set.binpb"
        contract = Contract.of(ours.service_of(int(functions)))
        descriptors.write_bytes(descriptor_set([contract]).SerializeToString())
        bundle = ("--bundle", "--platform=node", "--format=esm", "--log-level=warning", f"--outfile={program}")
        subprocess.run([_ESBUILD, "bench.ts", *bundle], cwd=_FOLDER, check=True)  # noqa: ASYNC221, S603  the program is ours
        process = await asyncio.create_subprocess_exec(
            *("node", program, library, f"http://{address}", descriptors),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            yield Node(library, process)
        finally:
            process.kill()
            await process.wait()

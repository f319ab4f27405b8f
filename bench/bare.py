"""The reference: a grpc.aio server and client as one writes them by hand, with the stubs of ``bare.proto``.

Its messages have a field for each thing that is sent, as those of a hand-written service have. With the Payload message
of ephaptic_grpc in their place, the reference would carry JSON that nobody reads, or read JSON as no stub does.
"""

import asyncio
import importlib
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_tools import protoc

from bench.load import TEXT, Calls, Load
from bench.worker import Served


def compile_stubs(folder: str) -> None:
    """Write the stubs to a folder.

    Raises:
        RuntimeError: protoc failed; it has said why.
    """
    here = Path(__file__).parent
    if protoc.main(["protoc", f"-I{here}", f"--python_out={folder}", f"--grpc_python_out={folder}", "bare.proto"]):
        raise RuntimeError("bare.proto could not be compiled")


@asynccontextmanager
async def server(stubs: str) -> AsyncIterator[Served]:
    messages, services = import_stubs(stubs)

    ends: asyncio.Queue[float] = asyncio.Queue()

    class Chat(services.ChatServicer):  # type: ignore[misc, name-defined] # made at run time
        async def Reply(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
            return messages.Answer(text=request.text)

        async def Ended(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
            return messages.Answer(text=str(await ends.get()))

        async def Tokens(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG002, N802
            for _ in range(request.count):
                yield messages.Answer(text=request.text)

        def TokensSync(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: ARG002, N802
            for _ in range(request.count):
                yield messages.Answer(text=request.text)

        async def Breathing(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG002, N802
            for _ in range(request.count):
                yield messages.Answer(text=request.text)
                await asyncio.sleep(0)

        async def Paced(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG002, N802
            for _ in range(request.count):
                await asyncio.sleep(0.001)
                yield messages.Answer(text=str(time.perf_counter()))

        async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG002, N802
            try:
                yield messages.Answer(text=request.text)
                await asyncio.Event().wait()
            finally:
                ends.put_nowait(time.perf_counter())

    grpc_server = grpc.aio.server()
    services.add_ChatServicer_to_server(Chat(), grpc_server)
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    await grpc_server.start()
    yield Served(f"127.0.0.1:{port}")
    await grpc_server.stop(None)


@asynccontextmanager
async def client(stubs: str, address: str) -> AsyncIterator[Load]:
    messages, services = import_stubs(stubs)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = services.ChatStub(channel)

        streams = {
            "tokens": stub.Tokens,
            "tokens_sync": stub.TokensSync,
            "breathing": stub.Breathing,
            "paced": stub.Paced,
            "watch": stub.Watch,
        }

        async def text(method: Any) -> str:
            answer: str = (await method(messages.Question(text=TEXT, count=1))).text
            return answer

        yield Load(
            Calls(
                reply=lambda: text(stub.Reply),
                stream=lambda name, count: streams[name](messages.Question(text=TEXT, count=count)),
                ended=lambda: text(stub.Ended),
            )
        )


def import_stubs(stubs: str) -> tuple[Any, Any]:
    """The modules of messages and services that were written to a folder."""
    sys.path.insert(0, stubs)
    return importlib.import_module("bare_pb2"), importlib.import_module("bare_pb2_grpc")

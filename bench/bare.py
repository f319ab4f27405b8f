"""The reference: a grpc.aio server and client as one writes them by hand, with the stubs of ``bare.proto``.

Its messages have a field for each thing that is sent, as those of a hand-written service have. With the Payload message
of ephaptic_grpc in their place, the reference would carry JSON that nobody reads, or read JSON as no stub does.
"""

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator
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
    messages, services = _import(stubs)

    class Chat(services.ChatServicer):  # type: ignore[misc, name-defined] # made at run time
        async def Reply(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
            return messages.Answer(text=request.text)

        async def Tokens(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG002, N802
            for _ in range(request.count):
                yield messages.Answer(text=request.text)

        async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG002, N802
            yield messages.Answer(text=request.text)
            await asyncio.Event().wait()

    grpc_server = grpc.aio.server()
    services.add_ChatServicer_to_server(Chat(), grpc_server)
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    await grpc_server.start()
    yield Served(f"127.0.0.1:{port}")
    await grpc_server.stop(None)


@asynccontextmanager
async def client(stubs: str, address: str) -> AsyncIterator[Load]:
    messages, services = _import(stubs)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = services.ChatStub(channel)

        async def reply() -> str:
            answer = await stub.Reply(messages.Question(text=TEXT, count=1))
            text: str = answer.text
            return text

        yield Load(
            Calls(
                reply=reply,
                tokens=lambda count: stub.Tokens(messages.Question(text=TEXT, count=count)),
                watch=lambda: stub.Watch(messages.Question(text=TEXT, count=1)),
            )
        )


def _import(stubs: str) -> tuple[Any, Any]:
    sys.path.insert(0, stubs)
    return importlib.import_module("bare_pb2"), importlib.import_module("bare_pb2_grpc")

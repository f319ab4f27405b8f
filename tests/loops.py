"""The event loops that tests run on."""

import asyncio
import traceback
from typing import Any

import uvloop


class AsyncioLoop(asyncio.SelectorEventLoop):
    """asyncio's loop, but for what other loops of the process leave behind."""

    def call_exception_handler(self, context: Any) -> None:
        if not is_of_a_closed_loop(context.get("exception")):
            super().call_exception_handler(context)


class UvLoop(uvloop.Loop):
    """uvloop's, likewise."""

    def call_exception_handler(self, context: Any) -> None:
        if not is_of_a_closed_loop(context.get("exception")):
            super().call_exception_handler(context)


def is_of_a_closed_loop(error: BaseException | None) -> bool:
    """Whether an error is one of grpc.aio, which has one queue of events for all loops of a process.

    The last event of a call whose loop is closed by now comes up in the loop of another test. A program with one loop
    sees none.
    """
    frames = [] if error is None else traceback.extract_tb(error.__traceback__)
    of_grpc = any("PollerCompletionQueue" in frame.name for frame in frames)
    return of_grpc and isinstance(error, RuntimeError) and str(error) == "Event loop is closed"


def backend(loop: str) -> tuple[str, dict[str, Any]]:
    """What anyio runs a test on: ``asyncio`` in debug mode, ``quick`` without it, or ``uvloop``."""
    factory = UvLoop if loop == "uvloop" else AsyncioLoop
    return "asyncio", {"loop_factory": factory, "debug": loop == "asyncio"}

"""From a procedure to what an edge runs: coroutines, functions in threads, and generators of both kinds.

Nothing here knows gRPC: a call comes as JSON, and JSON goes out. Exceptions leave as they are; the edge turns them into
a status.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from ephaptic_grpc.errors import TooLargeError
from ephaptic_grpc.limits import Limits
from ephaptic_grpc.payload import PLAIN, Delivery
from ephaptic_grpc.pipe import Interrupt, Patience, Pipe, Write, produce, produce_in_thread
from ephaptic_grpc.procedure import Procedure
from ephaptic_grpc.threads import Threads

Unary = Callable[[bytes], Awaitable[bytes]]
"""The JSON of the arguments to the JSON of the value."""


class Stream(Protocol):
    """The JSON of the arguments to as many writes as the generator has items, or fewer that carry several each."""

    def __call__(
        self, json: bytes, write: Write, interrupt: Interrupt, delivery: Delivery = ...
    ) -> Awaitable[None]: ...


def unary(procedure: Procedure, threads: Threads, limits: Limits) -> Unary:
    """What runs a procedure that gives one value."""
    function, load, dump = procedure.function, procedure.arguments.load, procedure.value.dump
    most = limits.reply_bytes

    async def on_loop(json: bytes) -> bytes:
        args, kwargs = load(json)
        value = dump(await function(*args, **kwargs))
        if len(value) > most:
            raise TooLargeError(len(value), most)
        return value

    async def in_thread(json: bytes) -> bytes:
        args, kwargs = load(json)
        value = await threads.run(lambda: dump(function(*args, **kwargs)))
        if len(value) > most:
            raise TooLargeError(len(value), most)
        return value

    return in_thread if procedure.threaded else on_loop


def stream(procedure: Procedure, threads: Threads, limits: Limits) -> Stream:
    """What runs a procedure that gives a stream. However it ends, the generator has been closed when it returns."""
    function, load, dump = procedure.function, procedure.arguments.load, procedure.value.dump
    most, patience = limits.reply_bytes, Patience.of(limits)

    async def on_loop(json: bytes, write: Write, interrupt: Interrupt, delivery: Delivery = PLAIN) -> None:
        args, kwargs = load(json)
        pipe = Pipe(asyncio.get_running_loop(), most, delivery)
        await _forward(
            pipe, write, produce(lambda: function(*args, **kwargs), dump, pipe, threads), patience, interrupt
        )

    async def in_thread(json: bytes, write: Write, interrupt: Interrupt, delivery: Delivery = PLAIN) -> None:
        args, kwargs = load(json)
        pipe = Pipe(asyncio.get_running_loop(), most, delivery)
        await _forward(
            pipe, write, produce_in_thread(threads, lambda: function(*args, **kwargs), dump, pipe), patience, interrupt
        )

    return in_thread if procedure.threaded else on_loop


async def _forward(
    pipe: Pipe, write: Write, stop: Callable[[], object], patience: Patience, interrupt: Interrupt
) -> None:
    """Write what a producer puts into a pipe, until it ends or this task is cancelled."""
    try:
        await pipe.forward(write, patience, interrupt)
    except BaseException:
        if pipe.ended:
            pipe.log_late_error()
        else:
            pipe.closed = True
            stop()
            await pipe.wait_for_end()
        raise
    if pipe.error is not None:
        try:
            raise pipe.error
        finally:
            # By its traceback the error holds this frame: nothing in it must hold the error.
            pipe.error = None
            del stop

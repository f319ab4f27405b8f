"""From a procedure to what an edge runs: coroutines, functions in threads, and generators of both kinds.

Nothing here knows gRPC: a call comes as JSON, and JSON goes out. Exceptions leave as they are; the edge turns them into
a status.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from ephaptic_grpc.payload import PLAIN, Delivery
from ephaptic_grpc.pipe import Pipe, Write, produce, produce_in_thread
from ephaptic_grpc.procedure import Procedure
from ephaptic_grpc.threads import Threads

Unary = Callable[[bytes], Awaitable[bytes]]
"""The JSON of the arguments to the JSON of the value."""


class Stream(Protocol):
    """The JSON of the arguments to as many writes as the generator has items, or fewer that carry several each."""

    def __call__(self, json: bytes, write: Write, delivery: Delivery = ...) -> Awaitable[None]: ...


def unary(procedure: Procedure, threads: Threads) -> Unary:
    """What runs a procedure that gives one value."""
    function, load, dump = procedure.function, procedure.arguments.load, procedure.value.dump

    async def on_loop(json: bytes) -> bytes:
        args, kwargs = load(json)
        return dump(await function(*args, **kwargs))

    async def in_thread(json: bytes) -> bytes:
        args, kwargs = load(json)
        return await threads.run(lambda: dump(function(*args, **kwargs)))

    return in_thread if procedure.threaded else on_loop


def stream(procedure: Procedure, threads: Threads) -> Stream:
    """What runs a procedure that gives a stream. However it ends, the generator has been closed when it returns."""
    function, load, dump = procedure.function, procedure.arguments.load, procedure.value.dump

    async def on_loop(json: bytes, write: Write, delivery: Delivery = PLAIN) -> None:
        args, kwargs = load(json)
        await _forward(lambda pipe: produce(lambda: function(*args, **kwargs), dump, pipe, threads), write, delivery)

    async def in_thread(json: bytes, write: Write, delivery: Delivery = PLAIN) -> None:
        args, kwargs = load(json)
        await _forward(
            lambda pipe: produce_in_thread(threads, lambda: function(*args, **kwargs), dump, pipe), write, delivery
        )

    return in_thread if procedure.threaded else on_loop


async def _forward(start: Callable[[Pipe], Callable[[], object]], write: Write, delivery: Delivery) -> None:
    """Write what a producer puts into a pipe, until it ends or this task is cancelled."""
    pipe = Pipe(asyncio.get_running_loop(), delivery)
    stop = start(pipe)
    try:
        await pipe.forward(write)
    except BaseException:
        if not pipe.ended:
            pipe.closed = True
            stop()
            await pipe.wait_for_end()
        pipe.log_late_error()
        raise
    if pipe.error is not None:
        raise pipe.error

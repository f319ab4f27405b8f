"""What the edges share: what they serve, the calls in flight, and what a failure tells its caller."""

import asyncio
import logging
from typing import Final, Generic, Protocol, TypeVar

import grpc
from google.rpc.error_details_pb2 import ErrorInfo

from ephaptic_grpc.call import Call
from ephaptic_grpc.contract import fingerprint
from ephaptic_grpc.errors import DOMAIN, BadArgumentsError, ServiceError, Status, log_error, status_of
from ephaptic_grpc.payload import CONTRACT_KEY
from ephaptic_grpc.procedure import Procedure
from ephaptic_grpc.service import Service, default_service, meant_in

logger = logging.getLogger("ephaptic_grpc")

DRAINING: Final = status_of(
    ServiceError(
        grpc.StatusCode.UNAVAILABLE,
        "the server is draining: it is about to end",
        ErrorInfo(reason="DRAINING", domain=DOMAIN),
    ),
    "",
)
"""What a call is told that the grace was too short for."""

LATE: Final = Status(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline has passed", ())
"""Told to a caller whose call took too long."""


class InFlight(Protocol):
    """A call, or what stands for it at an edge."""

    @property
    def procedure(self) -> Procedure: ...

    def interrupt(self, status: Status) -> asyncio.Task[None] | None:
        """Tell the caller, if there still is one, and cancel the function; what comes back tells. To interrupt it again
        does nothing.
        """


T = TypeVar("T", bound=InFlight)


class Calls(Generic[T]):
    """The calls in flight, counted until their functions have really ended.

    Args:
        most: how many there are at the same time.
    """

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self._calls: set[T] = set()
        self._idle = asyncio.Event()
        self._interrupted = asyncio.Event()

    def enter(self, call: T) -> None:
        """Count a call.

        Raises:
            ServiceError: RESOURCE_EXHAUSTED, there are too many.
        """
        if len(self._calls) >= self._most:
            text = f"the server has {self._most} calls at the same time, and takes no more"
            raise ServiceError(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        self._calls.add(call)

    @property
    def count(self) -> int:
        return len(self._calls)

    def discard(self, call: T) -> None:
        self._calls.discard(call)
        if not self._calls:
            self._idle.set()

    async def _until_idle(self) -> None:
        while self._calls:
            self._idle.clear()
            await self._idle.wait()

    async def drain(self, grace: float, cleanup: float) -> None:
        """Let the calls in flight finish for ``grace`` seconds; then interrupt the others, and wait until they have
        ended and their callers are told, or nothing of that happens for ``cleanup`` seconds.

        Called again while it runs, it shortens the grace.
        """
        idle, interrupted = asyncio.ensure_future(self._until_idle()), asyncio.ensure_future(self._interrupted.wait())
        try:
            await asyncio.wait((idle, interrupted), timeout=grace, return_when=asyncio.FIRST_COMPLETED)
            telling = [task for call in tuple(self._calls) if (task := call.interrupt(DRAINING)) is not None]
            self._interrupted.set()

            def left() -> int:
                return len(self._calls) + sum(not task.done() for task in telling)

            loop = asyncio.get_running_loop()
            before, since = left(), loop.time()
            while before and loop.time() < since + cleanup:  # thousands take their time
                await asyncio.wait((idle, *telling), timeout=cleanup / 20)
                if left() < before:
                    before, since = left(), loop.time()
        finally:
            idle.cancel()
            interrupted.cancel()

    def log_left_behind(self) -> None:
        """Log what has still not ended when an edge goes."""
        for path in sorted(call.procedure.path for call in self._calls):
            logger.error("%s ignored its cancellation and was left behind", path)


def served(services: tuple[Service, ...]) -> tuple[Service, ...]:
    """What an edge serves; no services mean the default one.

    Raises:
        TypeError, ValueError: what is no service, or two of one name.
    """
    services = services or (default_service,)
    for service in services:
        if not isinstance(service, Service):
            hint = meant_in(service)
            raise TypeError(f"what is served are services, not {service!r}{hint and f': {hint}'}")
    names = [service.name for service in services]
    if len(set(names)) < len(names):
        raise ValueError(f"a server has one service of a name: {', '.join(names)}")
    return services


def procedures_of(services: tuple[Service, ...]) -> list[Procedure]:
    """What an edge can be called for.

    Raises:
        ExposeError: an annotation of an exposed function names something that is not defined.
    """
    return [procedure for service in services for procedure in service.procedures.values()]


def failure(error: BaseException, call: Call) -> Status:
    """The status that tells a caller about what its function raised, or what was raised in place of calling it."""
    path = call.procedure.path
    if isinstance(error, BadArgumentsError):
        try:
            theirs = next((value for key, value in call.metadata if key == CONTRACT_KEY), None)
            if theirs is not None:
                error = error.under(str(theirs), fingerprint(call.procedure))
        except ServiceError:
            pass  # metadata that can't be read: the arguments are what was asked about
        except Exception as unfit:  # of a schema that a type describes for itself
            log_error(unfit, "%s has no contract", path)
    return status_of(error, path)

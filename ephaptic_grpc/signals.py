"""SIGINT and SIGTERM, heard by all who wait for them: a program may have several servers, and handlers of its own."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, Final

_NUMBERS: Final = (signal.SIGINT, signal.SIGTERM)

_waiting: Final[list[Callable[[], object]]] = []
_before: Final[dict[int, Any]] = {}


@contextmanager
def on_signals(callback: Callable[[], None]) -> Iterator[None]:
    """Call ``callback`` in the running loop on SIGINT and SIGTERM; outside of the main thread, never.

    Handlers of the loop (``loop.add_signal_handler``) are called, too. Those of ``signal.signal`` are not, until the
    last who waits has left.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    call = partial(asyncio.get_running_loop().call_soon_threadsafe, callback)
    if not _waiting:
        _before.update((number, signal.signal(number, _heard)) for number in _NUMBERS)
    _waiting.append(call)
    try:
        yield
    finally:
        _waiting.remove(call)
        if not _waiting:
            for number, handler in _before.items():
                if handler is not None:  # it was not set by Python
                    signal.signal(number, handler)


def _heard(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  signal calls it so
    for call in tuple(_waiting):
        call()

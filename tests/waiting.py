"""Waiting for what must happen, instead of sleeping and hoping."""

import asyncio
import time
from collections.abc import Callable
from typing import Any


async def eventually(condition: Callable[[], Any], within: float = 20.0) -> None:
    """Wait until a condition holds; AssertionError where it doesn't in time."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it has not happened in time"
        await asyncio.sleep(0.005)


def eventually_sync(condition: Callable[[], Any], within: float = 20.0) -> None:
    """The same, for tests that block."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it has not happened in time"
        time.sleep(0.005)


async def settled(value: Callable[[], Any], within: float = 20.0, still: float = 0.1) -> Any:
    """Wait until a value has stopped changing, and return it."""
    deadline = time.monotonic() + within
    last, since = value(), time.monotonic()
    while time.monotonic() - since < still:
        assert time.monotonic() < deadline, "it has not settled in time"
        await asyncio.sleep(0.005)
        if value() != last:
            last, since = value(), time.monotonic()
    return last

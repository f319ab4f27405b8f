import asyncio
import importlib.util
import os
import sys
import traceback
from binascii import crc32
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import uvloop
from hypothesis import settings

from ephaptic_grpc import Service

pytest_plugins = ["ephaptic_grpc.testing"]

# What hypothesis finds by chance is for who runs the tests at home; CI tries the same examples each time.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI") == "true":
    settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "run each asynchronous test on one of the two event loops, chosen by its name, and not on both"
    parser.addoption("--either-loop", action="store_true", help=text)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--either-loop"):
        left_out = [item for item in items if is_for_the_other_loop(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def is_for_the_other_loop(item: pytest.Item) -> bool:
    loop = getattr(item, "callspec", None) and item.callspec.params.get("anyio_backend")  # type: ignore[attr-defined]
    if loop not in ("asyncio", "uvloop"):
        return False
    chosen = crc32(item.nodeid.replace(loop, "").encode()) % 2
    return loop != ("asyncio", "uvloop")[chosen]


GOLDEN = Path(__file__).parent / "golden"


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


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Every asynchronous test runs on both event loops, on asyncio's in debug mode.

    uvloop 0.23 has one, too, but with grpc.aio in it, threads that call into the loop hang it or crash the process.
    """
    loop = UvLoop if request.param == "uvloop" else AsyncioLoop
    return "asyncio", {"loop_factory": loop, "debug": request.param == "asyncio"}


@pytest.fixture(scope="session")
def shapes() -> Service:
    """A service with every kind of value and of parameter."""
    service: Service = golden("shapes").shapes
    return service


@pytest.fixture(scope="session")
def shapes_client() -> ModuleType:
    """The module that was generated of it."""
    return golden("shapes_client")


def golden(name: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, GOLDEN / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

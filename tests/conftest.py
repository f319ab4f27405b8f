import importlib.util
import os
import sys
from binascii import crc32
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings
from loops import backend

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


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Every asynchronous test runs on both event loops, on asyncio's in debug mode.

    uvloop 0.23 has one, too, but with grpc.aio in it, threads that call into the loop hang it or crash the process.
    """
    return backend(request.param)


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
